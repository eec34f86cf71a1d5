"""The shop whose commands are decided: our orders by another name, and where a run begins."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import lru_cache
from typing import Any

import redis.asyncio
from msgspec.structs import replace

from benchmarks.contenders.task import Task
from eventfleet.audit import Auditor
from eventfleet.cli.sample_orders import sample
from eventfleet.deciders.proposed_events import propose_event
from eventfleet.domains.orders import Order, orders
from eventfleet.model.command_rules import START
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogReader, StoresByDomain
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.parked import NoParkedAggregates
from eventfleet.stores.redis import RedisMarkers
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.topics.record import LogRecord, ProducerRecord

SLICE = 5_000
DAY = 86_400.0


@dataclass(frozen=True)
class Story:
    """What has become events before a run, and the commands that are left for it."""

    events: Sequence[EventRecord]
    commands: Sequence[EventRecord]
    outcomes: Counter[str]


def shop(name: str) -> Domain[Order]:
    """Orders by this name, with nothing to do but to be decided and appended."""
    return with_changes(orders, name=name, snapshot=None, routes=())


def settings_of(task: Task) -> Settings:
    """The settings of a task, and else those of production."""
    return Settings(
        kafka_brokers=task.kafka,
        mongo_url=task.mongo_url,
        mongo_database=task.database,
        redis_url=task.redis_url,
        partitions=task.partitions,
        chunk_records=task.chunk,
    )


@lru_cache(maxsize=2)
def commands(count: int) -> list[EventRecord]:
    """What customers ask of so many orders, in the order in which it came."""
    return [ready.event for ready in sample(count)]


def story(name: str, count: int) -> Story:
    """The first fifth of the commands as the events they became, and what the rest come to."""
    domain = shop(name)
    all_ = [replace(command, domain=name) for command in commands(count)]
    begun = len(all_) // 5
    known: set[str] = set()
    latest: dict[str, EventRecord] = {}
    events: list[EventRecord] = []
    outcomes: Counter[str] = Counter()
    for index, command in enumerate(all_):
        event, allowed, *_ = propose_event(domain, command)
        before = latest.get(event.aggregate_id)
        outcome = "accepted"
        if event.id in known:
            outcome = "repeated"
        elif allowed is not None and (before.type if before else START) not in allowed:
            outcome = "rejected"
        else:
            latest[event.aggregate_id] = event
            known.add(event.id)
            if index < begun:
                events.append(replace(event, prev=before.id if before else ""))
        if index >= begun:
            outcomes[outcome] += 1
    return Story(events, all_[begun:], outcomes)


# Where a run begins


async def begin(
    task: Task,
    domain: Domain[Any],
    events: Sequence[EventRecord],
    commands: Sequence[EventRecord],
) -> None:
    """Topics, indexes, what has happened so far, and a Redis that has been up for a day."""
    settings, topics = settings_of(task), Topics.of(task.domain)
    async with connections.log_admin(settings) as admin:
        await admin.create(connections.topics_of(settings, domain))
    async with connections.log_writer(settings) as writer:
        for topic, some in ((topics.events, events), (topics.commands, commands)):
            for part in parts([record(topic, event) for event in some]):
                await writer.produce(part)
    async with connections.stores(settings, {domain.name: domain}) as stores:
        await stores[domain.name].events.prepare()
        await stores[domain.name].snapshots.prepare()
        await append_all(settings, domain, stores)
    await grow_old(settings)


def record(topic: str, event: EventRecord) -> ProducerRecord:
    return ProducerRecord(topic, event.aggregate_id.encode(), encode(event), None, EVENT_HEADERS)


def parts(records: Sequence[ProducerRecord]) -> Iterator[Sequence[ProducerRecord]]:
    for start in range(0, len(records), SLICE):
        yield records[start : start + SLICE]


async def grow_old(settings: Settings) -> None:
    """Redis' present life began a day ago, so that nothing in it is tentative."""
    terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
    markers = RedisMarkers(settings.redis_url, "any", terms, timeout=settings.redis_timeout)
    life = await markers.incarnation()
    await markers.close()
    client = redis.asyncio.from_url(settings.redis_url, socket_timeout=settings.redis_timeout)
    async with client:
        await client.hset("life", "began", f"{life.now - DAY:.6f}")


# What append makes of it


async def append_all(settings: Settings, domain: Domain[Any], stores: StoresByDomain) -> None:
    """Append everything that is in the log."""
    async with connections.log_reader(settings) as reader:
        topic = Topics.of(domain.name).events
        for partition, bounds in (await reader.watermarks(topic)).items():
            await _append(settings, domain, stores, reader, (topic, partition, bounds.end))


async def _append(
    settings: Settings,
    domain: Domain[Any],
    stores: StoresByDomain,
    reader: LogReader,
    until: tuple[str, int, int],
) -> None:
    topic, partition, end = until
    name = consumer_group(settings.group_prefix, domain.name, "append")
    role = AppendRole(
        domain,
        partition,
        stores[domain.name].events,
        TransactionalWriter(connections.connection(settings), name, topic, partition),
        NoParkedAggregates(),
        SystemClock(),
        cached=settings.cached_aggregates,
        puts=domain.synchronous,
        puts_only=domain.synchronous,
        marked=domain.uses_marker,
    )
    records: list[LogRecord] = []
    async for one in reader.read(topic, partition, await role.open(), end):
        records.append(one)
        if len(records) == SLICE:
            await role.chunk(records, one.offset + 1)
            records = []
    if records:
        await role.chunk(records, end)
    await role.close()


async def audit(settings: Settings, domain: Domain[Any]) -> int:
    """Append what is left; how many events are stored then. RuntimeError on any violation."""
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        connections.log_reader(settings) as reader,
    ):
        await append_all(settings, domain, stores)
        report = await Auditor(
            domain,
            stores[domain.name],
            reader,
            group_prefix=settings.group_prefix,
            exactly_once=True,
        ).run()
    if not report.clean or report.dead_letters:
        raise RuntimeError(f"{report.dead_letters} dead letters, {report.violations[:5]}")
    return report.stored
