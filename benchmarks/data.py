"""The benchmarks' domain, a ledger of accounts, and how its events get to where a line begins."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Annotated, NamedTuple
from uuid import UUID

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Event, State
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

SLICE = 10_000
CHUNK = 2_000
EVERY = 100
Placed = list[list[EventRecord]]
"""Events by partition."""

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


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


# Snapshot rule, routes, the domain


def route_of(name: str) -> str:
    """Where the withdrawals go, a third of the events."""
    return f"{name}.withdrawals"


def ledger(name: str) -> Domain[Account]:
    """The domain by this name."""
    return Domain(
        name,
        state=Account,
        evolve=evolve,
        events=EVENTS,
        snapshot=every(EVERY),
        routes=[Route(route_of(name), types=frozenset({Withdrawn}))],
    )


# The events of one run


class Amount(NamedTuple):
    """How many events, of how many aggregates, over how many partitions."""

    events: int
    aggregates: int
    partitions: int


def made(name: str, amount: Amount) -> list[list[EventRecord]]:
    """The events of each partition as the store has them; the same ones but for the name.

    Every aggregate has one at least; what is left goes to 15 in 100 of them, evenly.
    """
    random = Random(5)
    busy = max(1, amount.aggregates * 15 // 100)
    more = amount.events - amount.aggregates
    order = [*range(amount.aggregates), *(number % busy for number in range(more))]
    random.shuffle(order)
    versions = [0] * amount.aggregates
    placed: list[list[EventRecord]] = [[] for _ in range(amount.partitions)]
    for number, aggregate in enumerate(order):
        versions[aggregate] += 1
        aggregate_id = f"account-{aggregate:06}"
        partition = partition_of(aggregate_id, amount.partitions)
        position = Position(0, partition, len(placed[partition]))
        event = _event(name, aggregate_id, number, random)
        placed[partition].append(
            replace(event, version=versions[aggregate], position=str(position))
        )
    return placed


def _event(name: str, aggregate_id: str, number: int, random: Random) -> EventRecord:
    kind = EVENTS[random.randrange(3)]
    data = {"amount": random.randrange(1, 1_000_000), "reference": f"invoice {number:08}, May 2026"}
    if kind is not Charged:
        data["channel"] = random.choice(("branch", "card", "transfer"))
    return EventRecord(
        id=str(UUID(int=random.getrandbits(128), version=4)),
        type=kind.__name__,
        domain=name,
        aggregate_id=aggregate_id,
        time=BEGINNING + timedelta(milliseconds=number),
        data=data,
    )


# Where a line begins


async def make_topics(settings: Settings, name: str) -> None:
    """All topics of the domain, and its route's."""
    domain = ledger(name)
    async with connections.log_admin(settings) as admin:
        await admin.create(
            [*connections.topics_of(settings, domain), *connections.routes_of(settings, domain)]
        )


async def produce_events(settings: Settings, name: str, placed: Placed) -> int:
    """To `<name>.events`, as who sends them does; the sum of their lengths."""
    bare = [[replace(e, version=0, position=None) for e in events] for events in placed]
    return await _produce(settings, Topics.of(name).events, bare)


async def produce_stored(settings: Settings, name: str, placed: Placed) -> int:
    """To `<name>.stored`, as append does; the sum of their lengths."""
    return await _produce(settings, Topics.of(name).stored, placed)


async def _produce(settings: Settings, topic: str, events: Placed) -> int:
    records = [
        ProducerRecord(topic, event.aggregate_id.encode(), encode(event), partition, EVENT_HEADERS)
        for partition, some in enumerate(events)
        for event in some
    ]
    async with connections.log_writer(settings) as writer:
        for start in range(0, len(records), SLICE):
            await writer.produce(records[start : start + SLICE])
    return sum(len(record.value or b"") for record in records)


async def make_stores(settings: Settings, name: str) -> None:
    """The collections of the domain, with their indexes."""
    async with connections.stores(settings, {name: ledger(name)}) as stores:
        await stores[name].events.prepare()
        await stores[name].snapshots.prepare()


async def store(settings: Settings, name: str, placed: Placed) -> None:
    """Into the event store, as append does."""
    async with connections.stores(settings, {name: ledger(name)}) as stores:
        events = stores[name].events

        async def fill(some: list[EventRecord]) -> None:
            for start in range(0, len(some), CHUNK):
                await events.write(some[start : start + CHUNK])

        await asyncio.gather(*(fill(some) for some in placed))
