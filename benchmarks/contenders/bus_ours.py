"""Publishing through our buses."""

from contextlib import AsyncExitStack

from benchmarks.contenders.bus_data import connect, measure_publishing
from benchmarks.contenders.task import ContenderTask, read_task, run
from eventfleet.buses import EventBus, NatsBus, RedisBus


async def main(task: ContenderTask) -> None:
    async with AsyncExitStack() as stack:
        client = await connect(stack, task)
        kinds = {"redis": RedisBus, "nats": NatsBus}
        bus: EventBus = kinds[task.extra["bus"]](client, task.topic)
        await stack.enter_async_context(bus)
        await measure_publishing(task, bus.publish)


if __name__ == "__main__":
    run(main(read_task()))
