"""Hand-written relay on a fleet's file: withdrawals go on as they are."""

import apsw

from benchmarks.contenders.file_loop import ChunkHandler, FileLoop, InputRecord, OutputRecord
from benchmarks.contenders.relay_loop import decode, partition_of
from benchmarks.contenders.task import ContenderTask, read_task, run


async def main(task: ContenderTask) -> None:
    target = f"{task.domain}.withdrawals"

    def relay_chunk(records: list[InputRecord]) -> list[OutputRecord]:
        output = []
        for record in records:
            if decode(record.value).type == "Withdrawn":
                place = target, partition_of(record.key.encode(), task.partitions)
                output.append(OutputRecord(place, record.timestamp, record.key, record.value))
        return output

    def handler(connection: apsw.Connection, partition: int) -> ChunkHandler:
        return relay_chunk

    FileLoop(task, handler).run()


if __name__ == "__main__":
    run(main(read_task()))
