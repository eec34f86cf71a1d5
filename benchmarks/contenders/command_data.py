"""Data of the command scenarios: the orders domain by another name, its events and commands."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import lru_cache
from typing import Any

import redis.asyncio
from msgspec.structs import replace

from benchmarks.contenders.task import ContenderTask
from eventfleet.audit import Auditor
from eventfleet.cli.sample_orders import sample_orders
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import Order, orders
from eventfleet.model.command_rules import START
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.runtime import connections
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogReader, StoresByDomain
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.redis import RedisMarkers
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.topics.record import LogRecord, ProducerRecord

BATCH_RECORDS = 5_000
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class CommandDataset:
    """Events stored before a run, and the commands and expected outcomes of the run."""

    events: Sequence[EventRecord]
    commands: Sequence[EventRecord]
    outcomes: Counter[str]


def declare_shop(name: str) -> Domain[Order]:
    """Declare the orders domain by this name, without snapshots and routes."""
    return with_changes(orders, name=name, snapshot=None, routes=())


def make_settings(task: ContenderTask) -> Settings:
    """Return the task's settings; the others are those of production."""
    return Settings(
        kafka_brokers=task.kafka,
        mongo_url=task.mongo_url,
        mongo_database=task.database,
        redis_url=task.redis_url,
        partitions=task.partitions,
        chunk_records=task.chunk,
    )


@lru_cache(maxsize=2)
def sample_commands(count: int) -> list[EventRecord]:
    """Return the commands of `count` orders in the order of their arrival."""
    return [ready.event for ready in sample_orders(count)]


def make_dataset(name: str, count: int) -> CommandDataset:
    """Return the first fifth of the commands as events, and the expected outcomes of the rest."""
    domain = declare_shop(name)
    all_commands = [replace(command, domain=name) for command in sample_commands(count)]
    prior_count = len(all_commands) // 5
    event_ids: set[str] = set()
    latest: dict[str, EventRecord] = {}
    events: list[EventRecord] = []
    outcomes: Counter[str] = Counter()
    for index, command in enumerate(all_commands):
        event, allowed, *_ = propose_event(domain, command)
        before = latest.get(event.aggregate_id)
        outcome = "accepted"
        if event.id in event_ids:
            outcome = "repeated"
        elif allowed is not None and (before.type if before else START) not in allowed:
            outcome = "rejected"
        else:
            latest[event.aggregate_id] = event
            event_ids.add(event.id)
            if index < prior_count:
                events.append(replace(event, prev=before.id if before else ""))
        if index >= prior_count:
            outcomes[outcome] += 1
    return CommandDataset(events, all_commands[prior_count:], outcomes)


# Setup of a run


async def set_up_domain(
    task: ContenderTask,
    domain: Domain[Any],
    events: Sequence[EventRecord],
    commands: Sequence[EventRecord],
    redis_age_seconds: float = DAY_SECONDS,
) -> None:
    """Create topics and indexes, append prior events, and make Redis look so old."""
    settings, topics = make_settings(task), Topics.of(task.domain, "")
    async with connections.log_admin(settings) as admin:
        await admin.create(connections.topics_of(settings, domain))
    async with connections.log_writer(settings) as writer:
        for topic, topic_events in ((topics.events, events), (topics.commands, commands)):
            for batch in split_batches([to_record(topic, event) for event in topic_events]):
                await writer.produce(batch)
    async with connections.stores(settings, {domain.name: domain}) as stores:
        await stores[domain.name].events.prepare()
        await stores[domain.name].snapshots.prepare()
        await append_all(settings, domain, stores)
    await age_redis(settings, redis_age_seconds)


def to_record(topic: str, event: EventRecord) -> ProducerRecord:
    return ProducerRecord(topic, event.aggregate_id.encode(), encode(event), None, EVENT_HEADERS)


def split_batches(records: Sequence[ProducerRecord]) -> Iterator[Sequence[ProducerRecord]]:
    for start in range(0, len(records), BATCH_RECORDS):
        yield records[start : start + BATCH_RECORDS]


async def age_redis(settings: Settings, seconds: float) -> None:
    """Date Redis' present incarnation back; after a day no marker is tentative."""
    terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
    markers = RedisMarkers(settings.redis_url, "any", terms, timeout=settings.redis_timeout)
    life = await markers.incarnation()
    await markers.close()
    client = redis.asyncio.from_url(settings.redis_url, socket_timeout=settings.redis_timeout)
    async with client:
        await client.hset("life", "began", f"{life.now - seconds:.6f}")


# Append and audit


async def append_all(settings: Settings, domain: Domain[Any], stores: StoresByDomain) -> None:
    """Append all events of the log."""
    async with connections.log_reader(settings) as reader:
        topic = domain.topics.events
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
        TransactionalWriter(ServerBackend(settings).connection(), name, topic, partition),
        SystemClock(),
        AppendParking(
            *(domain.topics, partition, MemoryDeadLetters(), SystemClock()),
            *(stores[domain.name].events, MemoryProducer(MemoryLog())),
        ),
        cached=settings.cached_aggregates,
    )
    records: list[LogRecord] = []
    async for record in reader.read(topic, partition, await role.open(), end):
        records.append(record)
        if len(records) == BATCH_RECORDS:
            await role.process(records, record.offset + 1)
            records = []
    if records:
        await role.process(records, end)
    await role.close()


async def append_and_audit(settings: Settings, domain: Domain[Any]) -> int:
    """Append the remaining events and return how many are stored. RuntimeError on any violation."""
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
        raise RuntimeError(
            f"{report.dead_letters} dead letters, {report.violations[:5]}, {report.problems[:5]}"
        )
    return report.stored
