"""The benchmarks' domain, a ledger of accounts, and the setup of its topics and stores."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Event, State
from eventfleet.model.views import Row, View
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.snapshot_rules import every
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord

Cents = Annotated[int, Meta(ge=1, le=2**53)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]

PRODUCE_BATCH_RECORDS = 10_000
CHUNK_RECORDS = 2_000
SNAPSHOT_INTERVAL_EVENTS = 100
EventsByPartition = list[list[EventRecord]]
"""Lists of events by partition, with their versions and positions."""

FIRST_EVENT_TIME = datetime(2026, 1, 1, tzinfo=UTC)


# Events


class Deposited(Event):
    amount: Cents
    reference: Text
    channel: Text


class Withdrawn(Event):
    amount: Cents
    reference: Text
    channel: Text


class Charged(Event):
    amount: Cents
    reference: Text


EVENTS: tuple[type[Event], ...] = (Deposited, Withdrawn, Charged)


# State and evolve


class Account(State):
    balance: int = 0
    deposits: int = 0
    withdrawals: int = 0
    charges: int = 0
    channel: str = ""


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Deposited(amount=amount, channel=channel):
            balance, deposits = account.balance + amount, account.deposits + 1
            return replace(account, balance=balance, deposits=deposits, channel=channel)
        case Withdrawn(amount=amount, channel=channel):
            balance, withdrawals = account.balance - amount, account.withdrawals + 1
            return replace(account, balance=balance, withdrawals=withdrawals, channel=channel)
        case Charged(amount=amount):
            charges = account.charges + amount
            return replace(account, balance=account.balance - amount, charges=charges)
    raise TypeError(f"no rule for {type(event).__name__}")


# Snapshot rule, routes, the view, the domain


class AccountRow(Row):
    """An account's row; `events` counts what was applied to it."""

    changed_at: datetime
    balance: int = 0
    withdrawals: int = 0
    channel: str = ""
    events: int = 0


def project_account(row: AccountRow | None, event: Any) -> AccountRow:
    row = row or AccountRow(changed_at=event.time)
    balance, withdrawals, channel = row.balance, row.withdrawals, row.channel
    match event.data:
        case Deposited(amount=amount, channel=channel):
            balance += amount
        case Withdrawn(amount=amount, channel=channel):
            balance, withdrawals = balance - amount, withdrawals + 1
        case Charged(amount=amount):
            balance -= amount
    return AccountRow(
        changed_at=event.time,
        balance=balance,
        withdrawals=withdrawals,
        channel=channel,
        events=row.events + 1,
    )


def withdrawals_topic(name: str) -> str:
    """Return the topic of the withdrawals, a third of the events."""
    return f"{name}.withdrawals"


def declare_ledger(name: str) -> Domain[Account]:
    """Declare the ledger domain by this name."""
    return Domain(
        name,
        state=Account,
        evolve=evolve,
        events=EVENTS,
        snapshot=every(SNAPSHOT_INTERVAL_EVENTS),
        routes=[Route(withdrawals_topic(name), types=frozenset({Withdrawn}))],
        views=[View("accounts", row=AccountRow, project=project_account)],
    )


# The events of one run


class DatasetSize(NamedTuple):
    """The numbers of events, aggregates and partitions."""

    events: int
    aggregates: int
    partitions: int


def make_events(name: str, size: DatasetSize) -> list[list[EventRecord]]:
    """Return the events of each partition as stored; at each call the same but for the name.

    Every aggregate has at least one event; the rest is spread evenly over 15 % of them.
    """
    random = Random(5)
    busy = max(1, size.aggregates * 15 // 100)
    remaining = size.events - size.aggregates
    order = [*range(size.aggregates), *(number % busy for number in range(remaining))]
    random.shuffle(order)
    versions = [0] * size.aggregates
    placed_events: list[list[EventRecord]] = [[] for _ in range(size.partitions)]
    for number, aggregate in enumerate(order):
        versions[aggregate] += 1
        aggregate_id = f"account-{aggregate:06}"
        partition = partition_of(aggregate_id, size.partitions)
        position = Position(0, partition, len(placed_events[partition]))
        event = _make_event(name, aggregate_id, number, random)
        placed_events[partition].append(
            replace(event, version=versions[aggregate], position=str(position))
        )
    return placed_events


def _make_event(name: str, aggregate_id: str, number: int, random: Random) -> EventRecord:
    event_type = EVENTS[random.randrange(3)]
    data = {"amount": random.randrange(1, 1_000_000), "reference": f"invoice {number:08}, May 2026"}
    if event_type is not Charged:
        data["channel"] = random.choice(("branch", "card", "transfer"))
    return EventRecord(
        id=str(UUID(int=random.getrandbits(128), version=4)),
        type=event_type.__name__,
        domain=name,
        aggregate_id=aggregate_id,
        time=FIRST_EVENT_TIME + timedelta(milliseconds=number),
        data=data,
    )


# Setup of a run


async def create_topics(settings: Settings, name: str) -> None:
    """Create all topics of the domain and of its route."""
    domain = declare_ledger(name)
    async with connections.log_admin(settings) as admin:
        await admin.create(
            [*connections.topics_of(settings, domain), *connections.routes_of(settings, domain)]
        )


async def produce_events(settings: Settings, name: str, placed_events: EventsByPartition) -> int:
    """Produce to `<name>.events`, as a sender does; return the sum of the values' lengths."""
    unplaced = [[replace(e, version=0, position=None) for e in events] for events in placed_events]
    return await _produce(settings, Topics.of(name, "").events, unplaced)


async def produce_stored_events(
    settings: Settings, name: str, placed_events: EventsByPartition
) -> int:
    """Produce to `<name>.stored`, as append does; return the sum of the values' lengths."""
    return await _produce(settings, Topics.of(name, "").stored, placed_events)


async def _produce(settings: Settings, topic: str, events: EventsByPartition) -> int:
    records = [
        ProducerRecord(topic, event.aggregate_id.encode(), encode(event), partition, EVENT_HEADERS)
        for partition, partition_events in enumerate(events)
        for event in partition_events
    ]
    async with connections.log_writer(settings) as writer:
        for start in range(0, len(records), PRODUCE_BATCH_RECORDS):
            await writer.produce(records[start : start + PRODUCE_BATCH_RECORDS])
    return sum(len(record.value or b"") for record in records)


async def create_collections(settings: Settings, name: str) -> None:
    """Create the collections of the domain, with their indexes."""
    async with connections.stores(settings, {name: declare_ledger(name)}) as stores:
        await stores[name].events.prepare()
        await stores[name].snapshots.prepare()


async def store_events(settings: Settings, name: str, placed_events: EventsByPartition) -> None:
    """Write into the event store, as append does."""
    async with connections.stores(settings, {name: declare_ledger(name)}) as stores:
        events = stores[name].events

        async def fill(partition_events: list[EventRecord]) -> None:
            for start in range(0, len(partition_events), CHUNK_RECORDS):
                await events.write(partition_events[start : start + CHUNK_RECORDS])

        await asyncio.gather(*(fill(partition_events) for partition_events in placed_events))
