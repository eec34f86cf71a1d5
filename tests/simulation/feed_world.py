"""Clients that follow a domain's feeds over HTTP, services that die, and a store that is restored,
in simulated time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from msgspec.structs import replace
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from eventfleet.feeds.event_feed import EventFeed
from eventfleet.feeds.feed_client import (
    AggregateFeedClient,
    DomainFeedClient,
    FeedClient,
    FeedSelection,
)
from eventfleet.feeds.feed_follower import ConnectionLost, FeedFollower
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import State
from eventfleet.snapshot_rules import every
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import NO_HEAD, AssignPosition, DomainStores
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.event import EventRecord, Position
from eventfleet.web.failure_log import StreamCutOff
from eventfleet.web.feed_response import FeedRequest, FeedResponse
from eventfleet.web.open_feeds import OpenFeeds
from tests.simulation.checker import BrokenInvariant
from tests.simulation.fleet_world import LoopClock
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_loop import Process, SimulatedLoop

counting = Domain("counting", state=State, evolve=lambda state, event: state, snapshot=every(9))

PARTITIONS = 2
AGGREGATES = (("a", "b"), ("c",))
"""By partition."""

SILENCE_SECONDS = 5.0
WINDOW_CHUNKS = 2
TRAVEL_SECONDS = 0.03


@dataclass(frozen=True)
class FeedParts:
    """What the services are made of; a test takes a rule out by putting another part in."""

    feed: type[EventFeed] = EventFeed
    domain_client: type[DomainFeedClient] = DomainFeedClient
    aggregate_client: type[AggregateFeedClient] = AggregateFeedClient
    response: type[FeedResponse] = FeedResponse
    follower: type[FeedFollower] = FeedFollower


class Following(NamedTuple):
    """What a client follows: a domain (`aggregate_id` is None) or an aggregate, and a choice."""

    aggregate_id: str | None
    aggregates: frozenset[str] | None = None
    odd: bool = False

    @property
    def types(self) -> frozenset[str] | None:
        return frozenset({"Odd"}) if self.odd else None

    def selects(self, event: EventRecord) -> bool:
        return (
            self.aggregate_id in (None, event.aggregate_id)
            and (self.aggregates is None or event.aggregate_id in self.aggregates)
            and (not self.odd or event.type == "Odd")
        )


OF_AGGREGATES = Following("a"), Following("b"), Following("c"), Following("a", odd=True)
ALL = (
    *(Following(None), Following(None), Following(None, odd=True)),
    *(Following(None, frozenset("a")), Following(None, frozenset("ac"))),
    *OF_AGGREGATES,
)


@dataclass(frozen=True)
class FeedScenario:
    """What happens in a schedule: how often, in a step, a connection is cut, a service dies or
    stands still, the store is restored or fails; the share of wake-ups that is lost. `rate`: events
    a second in each partition."""

    services: int = 2
    clients: int = 4
    events: int = 40
    rate: float = 8.0
    followings: Sequence[Following] = ALL
    cuts: float = 0.004
    kills: float = 0.0
    stalls: float = 0.001
    restores: float = 0.0
    failures: float = 0.002
    lost_wakes: float = 0.3
    parts: FeedParts = field(default_factory=FeedParts)


@dataclass
class Copy:
    """A client's copy: the events that it has, and how often it was loaded anew."""

    following: Following
    reloads: int = 0
    events: list[tuple[str, int, str]] = field(default_factory=list)

    def reload(self, lives: int) -> None:
        """Begin anew, no more often than the store."""
        self.reloads += 1
        if self.reloads > lives:
            raise BrokenInvariant("loads anew for nothing", f"{self.following}")
        self.events.clear()

    def take(self, event: Mapping[str, Any]) -> None:
        key = (event["subject"], event["version"], event["id"])
        last = max((v for id, v, _ in self.events if id == key[0]), default=0)
        if key in self.events:
            raise BrokenInvariant("double", f"{self.following}: {key} after {self.events}")
        if key[1] <= last or (key[1] != last + 1 and not self.following.odd):
            raise BrokenInvariant("gap", f"{self.following}: {key} after {self.events}")
        self.events.append(key)


class Wire:
    """A response on its way from a service to a client."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._chunks: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self.is_cut = self.is_ended = False
        self.status = 0

    @property
    def pending(self) -> bool:
        """True while something is on its way."""
        return bool(self._chunks)

    def cut(self) -> None:
        """Lose what the client has not taken yet."""
        self.is_cut = True
        self._changed.set()

    async def receive(self) -> Message:
        while not self.is_cut:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        while len(self._chunks) >= WINDOW_CHUNKS and not self.is_cut:
            await self._wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            at = self._random.randint(0, len(message["body"]))
            self._chunks += [message["body"][:at], message["body"][at:]]
        self._changed.set()
        await checkpoint()

    def end(self) -> None:
        self.is_ended = True
        self._changed.set()

    async def lines(self) -> AsyncIterator[str]:
        rest = ""
        while True:
            while not self._chunks and not self.is_ended and not self.is_cut:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._wait()
                except TimeoutError:
                    raise ConnectionLost("silence") from None
            if self.is_cut:
                raise ConnectionLost("cut")
            if not self._chunks:
                return
            rest += self._chunks.popleft().decode()
            self._changed.set()
            *lines, rest = rest.split("\n")
            for line in lines:
                yield line
            await asyncio.sleep(self._random.expovariate(1 / TRAVEL_SECONDS))

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class StoreInFront:
    """The store that services use: the present one, which may fail."""

    def __init__(self, world: "FeedWorld") -> None:
        self._world = world
        self.registry = self

    async def _ask(self) -> MemoryEvents:
        store = self._world.store
        await checkpoint()
        if self._world.scheduler.chance(self._world.failing):
            self._world.scheduler.counts["the store fails"] += 1
            raise ServerUnavailable("the store is away")
        return store

    async def placed(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        found = await (await self._ask()).placed(point, limit)
        await self._travel()
        return found

    async def last_placed(self, partition: int) -> FeedPoint:
        return await (await self._ask()).last_placed(partition)

    async def incarnation(self) -> str:
        return await (await self._ask()).registry.incarnation()

    async def partition_counts(self) -> set[int]:
        return {PARTITIONS}

    async def read(self, *asked: Any) -> AsyncIterator[EventRecord]:
        found = [event async for event in (await self._ask()).read(*asked)]
        await self._travel()
        for event in found:
            yield event

    async def _travel(self) -> None:
        """Let time pass while an answer is on its way."""
        await asyncio.sleep(self._world.random.expovariate(1 / TRAVEL_SECONDS))


class WakeUp(NamedTuple):
    """A record of stored events, of which a follower looks at the partition only."""

    partition: int


class LossyFollower:
    """LogFollower that loses records, and breaks now and then."""

    def __init__(self, world: "FeedWorld") -> None:
        self._world = world

    @asynccontextmanager
    async def follow(self, topic: str, partitions: int) -> AsyncIterator[AsyncIterator[WakeUp]]:
        queue: asyncio.Queue[WakeUp] = asyncio.Queue()
        self._world.followers.append(queue)
        try:
            yield self._records(queue)
        finally:
            self._world.followers.remove(queue)

    async def _records(self, queue: asyncio.Queue[WakeUp]) -> AsyncIterator[WakeUp]:
        while True:
            record = await queue.get()
            if self._world.scheduler.chance(0.05):
                raise ServerUnavailable("records may have been missed")
            if not self._world.scheduler.chance(self._world.scenario.lost_wakes):
                yield record


@dataclass
class Service:
    """A process that serves feeds."""

    process: Process
    feed: EventFeed
    opened: OpenFeeds = field(default_factory=OpenFeeds)


class FeedWorld:
    def __init__(self, scenario: FeedScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.loop = SimulatedLoop(self.scheduler)
        self.clock = LoopClock(self.loop)
        self.store = MemoryEvents(PARTITIONS, checkpoint)
        self.lives = 0
        self.failing = scenario.failures
        self.followers: list[asyncio.Queue[WakeUp]] = []
        self.services: list[Service] = []
        self.copies: list[Copy] = []
        self.wires: list[tuple[Service, Wire]] = []
        self.left = scenario.events
        self._numbers = 0

    # The store

    async def write(self, partition: int) -> None:
        """Store events of one partition, as append does: in the order of their positions."""
        while self.left > 0:
            await asyncio.sleep(self.random.expovariate(self.scenario.rate))
            store, self.left = self.store, self.left - 1
            at = Position(0, partition, (await store.last_placed(partition)).offset + 1)
            event = await self._next_event(store, self.random.choice(AGGREGATES[partition]))
            if self.random.random() < 0.3:
                await store.put([event], partition)
                await asyncio.sleep(self.random.random() / 4)
                await store.write([AssignPosition(event, at)])
            else:
                await store.write([replace(event, position=str(at))])
            self.scheduler.tell("append", "stores", (event.aggregate_id, event.version, str(at)))
            for queue in self.followers:
                queue.put_nowait(WakeUp(partition))

    async def _next_event(self, store: MemoryEvents, aggregate_id: str) -> EventRecord:
        self._numbers += 1
        head = (await store.heads([aggregate_id])).get(aggregate_id, NO_HEAD)
        return EventRecord(
            id=f"e{self._numbers}",
            type="Odd" if self._numbers % 2 else "Even",
            domain=counting.name,
            aggregate_id=aggregate_id,
            time=self.clock.now(),
            data={},
            version=head.version + 1,
        )

    def restore(self) -> None:
        """Put a copy in the store's place that lacks the last events."""
        new = MemoryEvents(PARTITIONS, checkpoint)
        for partition in range(PARTITIONS):
            start = FeedPoint.start(partition)
            placed = drive(self.store.placed(start, self.scenario.events))
            drive(new.write(placed[: self.random.randint(0, len(placed))]))
        self.store, self.lives = new, self.lives + 1
        self.scheduler.tell("the store", "is restored from a copy")

    # Services

    def start_service(self, number: int) -> None:
        process = Process(f"service {number}")
        front = StoreInFront(self)
        stores = DomainStores(front, MemorySnapshots(1))  # type: ignore[arg-type]
        feed = self.scenario.parts.feed(
            *(counting.name, counting.topics.stored, Querier(counting, stores, self.clock)),
            *(front, front, LossyFollower(self), PARTITIONS),  # type: ignore[arg-type]
        )
        self.services.append(Service(process, feed))

        async def serve() -> None:
            async with feed.running():
                await self.loop.create_future()

        self.loop.start(process, serve())

    def kill(self, service: Service) -> None:
        self.services.remove(service)
        self.loop.kill(service.process)

    async def _respond(
        self, service: Service, wire: Wire, following: Following, cursor: str
    ) -> None:
        scope = {
            **{"type": "http", "method": "GET", "path": "/feed", "query_string": b""},
            **{"headers": [], "server": ("localhost", 80), "scheme": "http"},
        }
        parts, feed = self.scenario.parts, service.feed
        client: FeedClient
        if following.aggregate_id is None:
            selection = FeedSelection(following.types, following.aggregates)
            client = parts.domain_client(feed, selection)
        else:
            client = parts.aggregate_client(feed, following.aggregate_id, following.types, 0)

        async def recheck() -> None:
            """Everybody may follow."""

        asked = FeedRequest(Request(scope), None, cursor, "", recheck)
        response = parts.response(feed, client, asked, service.opened)
        try:
            await response(scope, wire.receive, wire.send)
        except (StreamCutOff, ClientDisconnect, ServerUnavailable):
            wire.cut()
        finally:
            wire.end()

    # Clients

    async def follow(self, process: Process, copy: Copy) -> None:
        try:
            await self._follow(process, copy)
        except BrokenInvariant as violation:
            self.loop.error = violation

    async def _follow(self, process: Process, copy: Copy) -> None:
        @asynccontextmanager
        async def connect(headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[str]]:
            await checkpoint()
            service = self.random.choice(self.services)
            wire = Wire(self.random)
            self.wires.append((service, wire))
            cursor = headers.get("Last-Event-ID", "")
            self.scheduler.tell(process.name, "connects to", service.process.name)
            answer = self._respond(service, wire, copy.following, cursor)
            self.loop.start(service.process, answer)
            try:
                yield wire.lines()
            finally:
                wire.cut()
                self.wires.remove((service, wire))

        async for update in self.scenario.parts.follower(connect):
            if update.kind == "reload":
                self.scheduler.tell(process.name, "loads anew")
                self.scheduler.counts["a client loads anew"] += 1
                copy.reload(self.lives)
            else:
                self.scheduler.tell(process.name, "gets", update.data["id"])
                copy.take(update.data)

    def is_current(self, copy: Copy) -> bool:
        """Return whether a client's copy equals the store's."""
        wanted = {
            (event.aggregate_id, event.version, event.id)
            for partition in range(PARTITIONS)
            for event in drive(self.store.placed(FeedPoint.start(partition), 10_000))
            if copy.following.selects(event)
        }
        return {*copy.events} == wanted
