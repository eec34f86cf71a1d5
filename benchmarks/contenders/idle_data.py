"""The idle scenario's shared part: four sample domains, and single events sent at rest."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace as with_changes
from itertools import islice
from statistics import median
from typing import Any

from msgspec.structs import replace

from benchmarks.contenders.command_data import sample_commands, to_record
from benchmarks.contenders.task import ContenderTask, Result, Stopwatch
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.bank import bank
from eventfleet.domains.cart import cart
from eventfleet.domains.orders import orders
from eventfleet.domains.trading import trading
from eventfleet.model.domain import Domain
from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.record import ProducerRecord
from eventfleet.workers.agents import ROLES, agent_class

SETTLE_SECONDS = 40.0
SAMPLE_ORDERS = 100
MIN_REST_SECONDS, MAX_REST_SECONDS = 2.5, 3.5
ARRIVAL_TIMEOUT_SECONDS = 10.0


class Arrivals:
    """The keys that have arrived, and waits for them."""

    def __init__(self) -> None:
        self._waits: dict[bytes, asyncio.Event] = {}

    def add(self, key: bytes) -> None:
        self._waits.setdefault(key, asyncio.Event()).set()

    async def wait(self, key: bytes) -> None:
        """Wait for a key. TimeoutError."""
        arrived = self._waits.setdefault(key, asyncio.Event())
        await asyncio.wait_for(arrived.wait(), ARRIVAL_TIMEOUT_SECONDS)


def declare_domains(suffix: str) -> dict[str, Domain[Any]]:
    """Declare four sample domains by names of their own, without routes."""
    domains = (orders, bank, trading, cart)
    named = [with_changes(each, name=f"{each.name}-{suffix}", routes=()) for each in domains]
    return {each.name: each for each in named}


def make_settings(task: ContenderTask) -> Settings:
    """Return the task's settings; the others are those of production."""
    return Settings(
        kafka_brokers=task.kafka,
        mongo_url=task.mongo_url,
        mongo_database=task.database,
        redis_url=task.redis_url,
        group_prefix=task.group,
        partitions=task.partitions,
        metrics_port=task.extra["metrics_port"],
    )


def sources(domains: dict[str, Domain[Any]]) -> Iterator[tuple[str, str]]:
    """Yield the role and the topic of each consumer of a worker of all roles."""
    for domain in domains.values():
        for role in ROLES:
            if agent_class(role).serves(domain):
                yield f"{domain.name}.{role}", agent_class(role).source_of(domain)


async def measure_idle(task: ContenderTask) -> Stopwatch:
    """Measure this process while nothing happens for the task's seconds."""
    await asyncio.sleep(SETTLE_SECONDS)
    clock = Stopwatch()
    clock.start()
    await asyncio.sleep(task.records)
    clock.stop()
    return clock


async def measure_delays(task: ContenderTask, arrivals: Arrivals) -> list[float]:
    """Send one event after another, at rest in between; return the seconds until each arrives."""
    producer, delays = Producer(Connection(task.kafka)), []
    try:
        for record in islice(_first_events(task.domain), task.extra["events"]):
            await asyncio.sleep(random.uniform(MIN_REST_SECONDS, MAX_REST_SECONDS))
            start = time.perf_counter()
            await producer.produce([record])
            await arrivals.wait(record.key or b"")
            delays.append(time.perf_counter() - start)
    finally:
        await producer.close()
    return delays


def _first_events(suffix: str) -> Iterator[ProducerRecord]:
    """Yield the first event of one order after another."""
    domain, seen = declare_domains(suffix)[f"{orders.name}-{suffix}"], set()
    for command in sample_commands(SAMPLE_ORDERS):
        if command.aggregate_id not in seen:
            seen.add(command.aggregate_id)
            event = propose_event(domain, replace(command, domain=domain.name)).event
            yield to_record(domain.topics.events, replace(event, prev=""))


def make_result(
    task: ContenderTask, clock: Stopwatch, delays: list[float], settings: dict[str, Any]
) -> Result:
    """Return the result of the idle seconds, and the delays of the single events after them."""
    measures = {
        "percent of a core": 100 * clock.cpu / clock.seconds,
        "p50": median(delays),
        "longest delay, s": max(delays),
    }
    return Result(task.records, clock.seconds, clock.cpu, 0, settings, measures)
