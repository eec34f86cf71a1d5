"""Hand-written relay: withdrawals go on as they are, with the offset in one transaction."""

from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from aiokafka.partitioner import murmur2

from benchmarks.contenders.loop import ChunkHandler, HandWrittenLoop, OutputRecords, new_output
from benchmarks.contenders.task import ContenderTask, read_task, run


class EventEnvelope(msgspec.Struct):
    """An event as JSON in a topic."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: dict[str, Any]
    version: int
    position: str
    schemaversion: int = 1


decode = msgspec.json.Decoder(EventEnvelope).decode


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def main(task: ContenderTask) -> None:
    target = f"{task.domain}.withdrawals"

    async def relay_chunk(records: list[Any]) -> OutputRecords:
        output = new_output()
        for record in records:
            if decode(record.value).type == "Withdrawn":
                destination = target, partition_of(record.key, task.partitions)
                output[destination].append((record.key, record.value))
        return output

    def handler(partition: int) -> ChunkHandler:
        return relay_chunk

    loop = HandWrittenLoop(task, handler)
    await loop.run()
    loop.write_result()


if __name__ == "__main__":
    run(main(read_task()))
