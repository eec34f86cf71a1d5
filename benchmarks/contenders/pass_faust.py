"""Pass-through by a stock Faust agent: one value at a time, acked and committed by Faust."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator

import faust

from benchmarks.contenders.task import (
    EVENT_LOOP,
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)


async def main(task: ContenderTask) -> None:
    logging.disable(logging.CRITICAL)
    clock, done = Stopwatch(), asyncio.Event()
    events = value_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            task.group,
            broker=f"kafka://{task.kafka}",
            datadir=folder,
            broker_max_poll_records=task.chunk,
            consumer_auto_offset_reset="earliest",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_recovery_delay=0.0,
            web_enabled=False,
        )

        async def count(values: AsyncIterator[bytes]) -> None:
            nonlocal events, value_bytes
            async for value in values:
                clock.start()
                events += 1
                value_bytes += len(value)
                if events == task.records:
                    done.set()

        topic = app.topic(task.topic, key_serializer="raw", value_serializer="raw")
        app.agent(topic)(count)
        await app.start()
        await done.wait()
        while sum(filter(None, app.consumer._committed_offset.values())) < task.records:
            await app.consumer.commit()
            await asyncio.sleep(0)
        clock.stop()
        settings = {
            "chunk": app.conf.broker_max_poll_records,
            "fetch bytes": app.conf.consumer_max_fetch_size,
            "isolation": "read_uncommitted",
            "commit": f"each {app.conf.broker_commit_interval:g} s",
            "event loop": EVENT_LOOP,
        }
        await app.stop()
    write_result(Result(events, clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    run(main(read_task()))
