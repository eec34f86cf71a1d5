"""A synchronous domain for tests, and its Manager over the in-memory servers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.state_command import StateCommand
from eventfleet.model.command_rules import Decision, Emits, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.codec import decode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.unit.marker_fixture import Failing

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FEE = 1


class Put(Event):
    cents: Annotated[int, Meta(ge=1)]


class Taken(Event):
    cents: Annotated[int, Meta(ge=1)]


class Charged(Event):
    cents: int


class Noted(Event):
    text: str


class Till(State):
    cents: int = 0


class PutIn(Command):
    cents: int


class TakeOut(Command):
    cents: int


class Break(Command):
    how: str


class Note(Command):
    text: str


def evolve(till: Till, event: Event) -> Till:
    match event:
        case Put(cents=cents):
            return replace(till, cents=till.cents + cents)
        case Taken(cents=cents) | Charged(cents=cents):
            return replace(till, cents=till.cents - cents)
        case Noted(text="unfoldable"):
            raise ValueError("no fold")
    return till


def decide(till: Till, command: Command) -> Decision:
    match command:
        case PutIn(cents=cents):
            return Put(cents=cents)
        case TakeOut(cents=cents):
            if till.cents < cents + FEE:
                return Rejection(f"there are {till.cents}")
            return [Taken(cents=cents), Charged(cents=FEE)]
        case Break(how="raises"):
            raise ValueError("broken")
        case Break(how="nothing"):
            return []
        case Break(how="unfoldable"):
            return Noted(text="unfoldable")
    raise TypeError(type(command).__name__)


till = Domain(
    "till",
    state=Till,
    evolve=evolve,
    events=[Put, Taken, Charged, Noted],
    commands=[PutIn, TakeOut, Break, Emits(Note, Noted)],
    decide=decide,
)


class Counted(Failing):
    """As Failing, of an event store."""

    def read(self, *args: Any) -> AsyncIterator[EventRecord]:
        self.calls.append(("read", args[0]))
        return self._inner.read(*args)


class SyncFixture:
    """A Manager and what stands behind it."""

    def __init__(
        self,
        cached: int = 100,
        kept: "SyncFixture | None" = None,
        domain: Domain[Any] = till,
    ) -> None:
        self.domain = domain
        self.log = kept.log if kept else MemoryLog()
        if not kept:
            for spec in declare_topics(Topics.of("till", ""), 1, 1, -1):
                self.log.create(spec)
        self.events = kept.events if kept else MemoryEvents(domain="till")
        self.shots = kept.shots if kept else MemorySnapshots(3)
        self.store, self.snapshots = Counted(self.events), Failing(self.shots)
        self.producer = Failing(MemoryProducer(self.log))
        self.clock, self._cached = SystemClock(), cached
        self.announced: list[tuple[EventRecord, bool]] = []
        self.manager: Manager = None  # type: ignore[assignment]

    @asynccontextmanager
    async def open(self) -> AsyncIterator["SyncFixture"]:
        stores = DomainStores(self.store, self.snapshots)
        self.querier = Querier(self.domain, stores, self.clock, cache=LruCache(self._cached))
        self.saver = SnapshotSaver(self.domain, self.snapshots, self.clock, limit=1000)
        self.commander = Commander(self.store, self.saver, partitions=1)
        self.publisher = EventPublisher(self.producer, "till.events", self.clock, partitions=1)
        manager = Manager(
            self.domain,
            self.querier,
            self.commander,
            self.publisher,
            self.clock,
            announce=self._announce,
        )
        async with manager.running():
            self.manager = manager
            yield self

    def _announce(self, events: Sequence[EventRecord]) -> None:
        """Note what is announced, and whether the stream has it already."""
        produced = {event.id for event in self.produced()}
        self.announced += [(event, event.id in produced) for event in events]

    async def send(self, name: str, id: str = "", aggregate: str = "a", **data: Any) -> Outcome:
        return (await self.decide(ask(name, id, aggregate, **data)))[0]

    async def decide(
        self, *requests: StateCommand, seconds: float = 10, settle: bool = True
    ) -> list[Outcome]:
        """Decide, and let the stream take what is produced behind the answers."""
        outcomes: dict[int, Outcome] = {}
        deadline = self.clock.steady() + timedelta(seconds=seconds)
        await self.manager.decide(requests, deadline, outcomes.__setitem__)
        if settle and (produces := self.publisher._produces):
            await asyncio.wait(produces)
        return [outcomes[index] for index in range(len(requests))]

    async def stored(self, aggregate: str = "a") -> list[EventRecord]:
        return [event async for event in self.events.read(aggregate)]

    def produced(self) -> list[EventRecord]:
        return [decode(e.record.value) for e in self.log.entries("till.events", 0) if e.record]

    async def saved(self, version: int, aggregate: str = "a") -> dict[str, Any]:
        """The state of its snapshot, as soon as there is one of this version."""
        async with asyncio.timeout(20):
            while True:
                found = (await self.shots.latest([aggregate], till.state_shape)).get(aggregate)
                if found and found.version == version:
                    return found.state
                await asyncio.sleep(0.001)


serial = iter(range(1, 1_000_000))


def ask(name: str, id: str = "", aggregate: str = "a", **data: Any) -> StateCommand:
    command = EventRecord(
        id=id or f"command-{next(serial)}",
        type=name,
        domain="till",
        aggregate_id=aggregate,
        time=NOW,
        data=data,
    )
    request = parse_command(till, command)
    assert isinstance(request, StateCommand)
    return request
