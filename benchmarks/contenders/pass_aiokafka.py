"""Pass-through by aiokafka alone: getmany, sum, commit while the next chunk comes in."""

import asyncio

from aiokafka import AIOKafkaConsumer

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
ISOLATION = "read_committed"


async def main(task: ContenderTask) -> None:
    clock, events, value_bytes = Stopwatch(), 0, 0
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.kafka,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=ISOLATION,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
    )
    async with consumer:
        committing = asyncio.create_task(asyncio.sleep(0))
        while events < task.records:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=task.chunk)
            if not fetched:
                continue
            clock.start()
            for records in fetched.values():
                events += len(records)
                value_bytes += sum([len(record.value) for record in records])
            ends = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
            await committing
            committing = asyncio.create_task(consumer.commit(ends))
        await committing
        clock.stop()
    settings = {
        "chunk": task.chunk,
        "fetch bytes": FETCH_BYTES,
        "isolation": ISOLATION,
        "commit": "each chunk",
        "event loop": EVENT_LOOP,
    }
    write_result(Result(events, clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    run(main(read_task()))
