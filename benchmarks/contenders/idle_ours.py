"""A worker of all roles, as `eventfleet worker` runs it, with nothing to do."""

import asyncio
import os
import signal
from contextlib import suppress

import aiohttp
from aiokafka import AIOKafkaConsumer

from benchmarks.contenders.idle_data import (
    Arrivals,
    declare_domains,
    make_result,
    make_settings,
    measure_delays,
    measure_idle,
)
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result
from eventfleet.cli.worker import run_worker
from eventfleet.topics.names import Topics
from eventfleet.workers.agents import ROLES

POLL_SECONDS = 0.2
READY_TIMEOUT_SECONDS = 60.0
OK = 200


async def main(task: ContenderTask) -> None:
    settings, domains = make_settings(task), declare_domains(task.domain)
    worker = asyncio.create_task(run_worker(settings, domains, ROLES))
    try:
        await _wait_until_ready(f"http://127.0.0.1:{settings.metrics_port}/ready", worker)
        clock = await measure_idle(task)
        delays = await _measure_delays_to_stored(task, next(iter(domains)))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await worker
    reported = {"event loop": EVENT_LOOP, "threads": "one for each consumer"}
    write_result(make_result(task, clock, delays, reported))


async def _wait_until_ready(url: str, worker: asyncio.Task[None]) -> None:
    """Wait until the worker is ready; its error, or TimeoutError."""
    async with asyncio.timeout(READY_TIMEOUT_SECONDS), aiohttp.ClientSession() as session:
        while not worker.done():
            with suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == OK:
                        return
            await asyncio.sleep(POLL_SECONDS)
    worker.result()


async def _measure_delays_to_stored(task: ContenderTask, domain: str) -> list[float]:
    """Measure from the sending of an event until a reader has it from `<domain>.stored`."""
    consumer = AIOKafkaConsumer(
        Topics.of(domain, "").stored, bootstrap_servers=task.kafka, isolation_level="read_committed"
    )
    arrivals = Arrivals()

    async def read() -> None:
        async for record in consumer:
            arrivals.add(record.key)

    async with consumer:
        reading = asyncio.create_task(read())
        try:
            return await measure_delays(task, arrivals)
        finally:
            reading.cancel()


if __name__ == "__main__":
    run(main(read_task()))
