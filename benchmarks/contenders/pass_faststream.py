"""Pass-through by FastStream's batch subscriber, each batch acked by hand."""

import asyncio
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from benchmarks.contenders.task import (
    EVENT_LOOP,
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)

FETCH_BYTES = 1_048_576


async def raw(message: KafkaMessage) -> Any:
    """Return the list of values undecoded."""
    return message.body


async def main(task: ContenderTask) -> None:
    clock, done = Stopwatch(), asyncio.Event()
    events = value_bytes = 0
    broker = KafkaBroker(task.kafka, logger=None)

    @broker.subscriber(
        task.topic,
        batch=True,
        max_records=task.chunk,
        group_id=task.group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
        ack_policy=AckPolicy.MANUAL,
        decoder=raw,
    )
    async def count(message: KafkaMessage) -> None:
        nonlocal events, value_bytes
        clock.start()
        values: Any = message.body
        events += len(values)
        value_bytes += sum([len(value) for value in values])
        await message.ack()
        if events == task.records:
            clock.stop()
            done.set()

    async with broker:
        await broker.start()
        await done.wait()
    settings = {
        "chunk": task.chunk,
        "fetch bytes": FETCH_BYTES,
        "isolation": "read_committed",
        "commit": "each chunk",
        "event loop": EVENT_LOOP,
    }
    write_result(Result(events, clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    run(main(read_task()))
