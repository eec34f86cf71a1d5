"""Publishing by the servers' bare clients, with the same bytes."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks.contenders.bus_data import connect, measure_publishing
from benchmarks.contenders.task import ContenderTask, read_task, run
from eventfleet.buses import CloudEventsSerializer, DocumentEvent

encode = CloudEventsSerializer().encode


async def main(task: ContenderTask) -> None:
    async with AsyncExitStack() as stack:
        client = await connect(stack, task)

        async def to_redis(events: Sequence[DocumentEvent]) -> None:
            pipeline = client.pipeline(transaction=False)
            for event in events:
                pipeline.xadd(task.topic, {"event": encode(event)})
            await pipeline.execute()

        async def to_nats(events: Sequence[DocumentEvent]) -> None:
            subject = f"{task.topic}.events"
            sent = [await stream.publish_async(subject, encode(event)) for event in events]
            await asyncio.gather(*sent)

        match task.extra["bus"]:
            case "redis":
                await measure_publishing(task, to_redis)
            case "nats":
                stream = client.jetstream()
                await stream.add_stream(name=task.topic, subjects=[f"{task.topic}.events"])
                await measure_publishing(task, to_nats)


if __name__ == "__main__":
    run(main(read_task()))
