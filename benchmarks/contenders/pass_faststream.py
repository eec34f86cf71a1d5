"""Pass-through by FastStream's batch subscriber, each batch acked by hand."""

import asyncio
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from benchmarks.contenders.task import LOOP, Clock, Result, Task, run, task, told

FETCH = 1_048_576


async def raw(message: KafkaMessage) -> Any:
    """The list of values as they are, not decoded."""
    return message.body


async def main(task: Task) -> None:
    clock, done = Clock(), asyncio.Event()
    events = check = 0
    broker = KafkaBroker(task.kafka, logger=None)

    @broker.subscriber(
        task.topic,
        batch=True,
        max_records=task.chunk,
        group_id=task.group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH,
        fetch_max_wait_ms=100,
        ack_policy=AckPolicy.MANUAL,
        decoder=raw,
    )
    async def count(message: KafkaMessage) -> None:
        nonlocal events, check
        clock.start()
        values: Any = message.body
        events += len(values)
        check += sum([len(value) for value in values])
        await message.ack()
        if events == task.records:
            clock.stop()
            done.set()

    async with broker:
        await broker.start()
        await done.wait()
    settings = {
        "chunk": task.chunk,
        "fetch bytes": FETCH,
        "isolation": "read_committed",
        "commit": "each chunk",
        "event loop": LOOP,
    }
    told(Result(events, clock.seconds, clock.cpu, check, settings))


if __name__ == "__main__":
    run(main(task()))
