"""Purses, a synchronous domain, and what its services, stores and stream say of one purse."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from eventfleet.deciders.outcomes import Outcome
from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.event_services import event_service
from eventfleet.service.event_service import EventService
from eventfleet.stores.mongo.documents import event_id
from eventfleet.stores.mongo.events import MongoEvents
from eventfleet.stores.mongo.snapshots import MongoSnapshots
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.snapshots import SqliteSnapshots
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet_on_file import FileFleet
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB

MODULE = """
from msgspec.structs import replace

from eventfleet import Command, Domain, Emits, Event, Rejection, State


class Deposited(Event):
    cents: int


class Withdrawn(Event):
    cents: int


class Charged(Event):
    cents: int


class Noted(Event):
    text: str


class Purse(State):
    cents: int = 0


def evolve(purse, event):
    match event:
        case Deposited(cents=cents):
            return replace(purse, cents=purse.cents + cents)
        case Withdrawn(cents=cents) | Charged(cents=cents):
            return replace(purse, cents=purse.cents - cents)
        case Noted(text="can't be folded"):
            raise ValueError("as it says")
    return purse


class Deposit(Command):
    cents: int


class Withdraw(Command):
    cents: int
    fee: int = 0


class Note(Command):
    text: str = ""


def decide(purse, command):
    match command:
        case Deposit(cents=cents):
            return Deposited(cents=cents)
        case Withdraw(cents=cents, fee=fee):
            if cents + fee > purse.cents:
                return Rejection(f"there are only {purse.cents}")
            return [Withdrawn(cents=cents), Charged(cents=fee)] if fee else Withdrawn(cents=cents)


purses = Domain(
    "purses",
    state=Purse,
    evolve=evolve,
    events=[Deposited, Withdrawn, Charged, Noted],
    commands=[Deposit, Withdraw, Emits(Note, Noted)],
    decide=decide,
)
"""


class Purses(CommandFleet):
    """A fleet of them. `event_store` and `snapshot_store` are the classes of its stores."""

    event_store: type[Any] = MongoEvents
    snapshot_store: type[Any] = MongoSnapshots
    _has_problems = False

    def audited(self, *, problems: bool = False) -> tuple[list[Any], int, int]:
        """Violations, dead letters and superseded records, once append has passed the log.

        `problems`: whether tests have put events that can't be folded; they stay in the store.
        """
        self._has_problems |= problems
        self.settle("append")
        report = self.json("audit", "purses", status=int(self._has_problems))
        kinds = {"event"} if self._has_problems else set()
        assert {found["kind"] for found in report["problems"]} == kinds
        return report["violations"], report["dead_letters"], report["superseded"]


class PursesOnServers(Purses):
    """Their fleet on a stream and a store of its own, for tests to harm."""

    def __init__(self, stream: Kafka, store: RefusingMongoDB, redis_url: str, folder: Path) -> None:
        self.stream, self.store = stream, store
        servers = stream.address, store.url, redis_url
        super().__init__(servers, folder, "purses", MONGO_TIMEOUT="4")


class PursesOnFile(FileFleet, Purses):
    """Their fleet on a file."""

    event_store, snapshot_store = SqliteEvents, SqliteSnapshots


def opened(fleet: Purses, **settings: Any) -> AbstractAsyncContextManager[EventService]:
    """A service, with nothing in its memory, and with these settings in place of the fleet's."""
    domain = select_domains(fleet.settings, ["purses"])["purses"]
    return event_service(fleet.settings.model_copy(update=settings), domain)


async def deposit(service: EventService, purse: str, cents: int = 10, **more: Any) -> Outcome:
    return await service.send(purse, "Deposit", {"cents": cents}, **more)


async def withdraw(service: EventService, purse: str, cents: int, **more: Any) -> Outcome:
    fee = more.pop("fee", 0)
    return await service.send(purse, "Withdraw", {"cents": cents, "fee": fee}, **more)


def kept(fleet: Purses, purse: str) -> list[dict[str, Any]]:
    """The purse's documents in the event storage, by version; `_id` is the event's own id."""
    found = fleet.events.find({"aggregate_id": purse}).sort("version", 1)
    return [event | {"_id": event_id(event["_id"])} for event in found]


async def snapshot_of(fleet: Purses, purse: str, version: int) -> dict[str, Any]:
    """Its snapshot of a version, as soon as it is there."""
    async with asyncio.timeout(90):
        while True:
            found = fleet.snapshots.find_one({"aggregate_id": purse, "version": version})
            if found:
                return dict(found)
            await asyncio.sleep(0.05)


async def stored(fleet: Purses, purse: str, count: int) -> list[dict[str, Any]]:
    """Its events as `.stored` has them, once there are so many."""
    return await on_topic(fleet, "stored", purse, count)


async def on_topic(fleet: Purses, topic: str, purse: str, count: int) -> list[dict[str, Any]]:
    """Its events as one of the domain's topics has them, once there are so many."""
    async with asyncio.timeout(90):
        while True:
            passed = await asyncio.to_thread(fleet.topic_events, topic)
            events = [event for event in passed if event["subject"] == purse]
            if len(events) >= count:
                return events
            await asyncio.sleep(0.1)


def about(fleet: Purses, kind: str, purse: str) -> list[dict[str, Any]]:
    """The operations on a collection, while they were noted, that have to do with a purse; and
    the inserts, which are noted without their documents."""
    noted = fleet.queries(kind)
    return [each for each in noted if "insert" in each or purse in json.dumps(each, default=str)]
