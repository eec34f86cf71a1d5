"""As many bare aiokafka consumers as a worker of all roles has, in one process."""

import asyncio

from aiokafka import AIOKafkaConsumer

from benchmarks.contenders.idle_data import (
    Arrivals,
    declare_domains,
    make_result,
    measure_delays,
    measure_idle,
    sources,
)
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result


async def main(task: ContenderTask) -> None:
    consumers = [
        AIOKafkaConsumer(
            topic,
            bootstrap_servers=task.kafka,
            group_id=f"{task.group}.{name}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            **task.extra["consumer"],
        )
        for name, topic in sources(declare_domains(task.domain))
    ]
    arrivals = Arrivals()

    async def read(consumer: AIOKafkaConsumer) -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=1000)
            for records in fetched.values():
                for record in records:
                    arrivals.add(record.key)

    await asyncio.gather(*(consumer.start() for consumer in consumers))
    readers = [asyncio.create_task(read(consumer)) for consumer in consumers]
    clock = await measure_idle(task)
    delays = await measure_delays(task, arrivals)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await asyncio.gather(*(consumer.stop() for consumer in consumers))
    settings = {"event loop": EVENT_LOOP, "threads": "one"}
    write_result(make_result(task, clock, delays, settings))


if __name__ == "__main__":
    run(main(read_task()))
