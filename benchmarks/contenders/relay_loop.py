"""Relay by hand: withdrawals go on as they are, with the offset in one transaction."""

from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from aiokafka.partitioner import murmur2

from benchmarks.contenders.loop import Handle, Loop, Rows, rows
from benchmarks.contenders.task import Task, run, task


class Wire(msgspec.Struct):
    """An event on its way."""

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


decode = msgspec.json.Decoder(Wire).decode


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def main(task: Task) -> None:
    target = f"{task.domain}.withdrawals"

    async def relay(records: list[Any]) -> Rows:
        out = rows()
        for record in records:
            if decode(record.value).type == "Withdrawn":
                where = target, partition_of(record.key, task.partitions)
                out[where].append((record.key, record.value))
        return out

    def handler(partition: int) -> Handle:
        return relay

    loop = Loop(task, handler)
    await loop.run()
    loop.tell()


if __name__ == "__main__":
    run(main(task()))
