"""A fleet in simulated time: services with a Manager each, workers, and their servers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.command import CommandRole
from eventfleet.roles.parking import Parking
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.roles.sweep import Sweep
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.log import (
    MemoryProducer,
    MemoryTransactionalWriter,
    SourcePartition,
)
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.names import consumer_group
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord
from eventfleet.topics.topic_specs import TopicSpec
from eventfleet.workers.owner import Ack, Owner
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport.chunk import MAX_CHUNKS_IN_FLIGHT, Chunk
from tests.simulation.accounts import accounts
from tests.simulation.checker import History, Kept
from tests.simulation.faults import Faults, Shaky, ShakyEvents
from tests.simulation.replicated_events import ReplicatedEvents
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_loop import SimulatedLoop
from tests.simulation.simulated_transactions import Network
from tests.simulation.simulated_writer import SimulatedWriter

TOPICS = accounts.topics
SOURCES = {"append": TOPICS.events, "snapshot": TOPICS.stored, "command": TOPICS.commands}
START = datetime(2025, 1, 1, tzinfo=UTC)
TIMEOUTS = OwnerTimeouts(in_hand=0.5, tick=0.2, fenced=0.3, longest_pause=0.2)
POLL_SECONDS = 0.05
BIG = 1_000_000


@dataclass(frozen=True)
class FleetParts:
    """What the fleet is made of; a test takes a rule out by putting another part in."""

    manager: type[Manager] = Manager
    commander: type[Commander] = Commander
    command_role: type[CommandRole] = CommandRole
    append: type[AppendRole] = AppendRole
    querier: type[Querier[Any]] = Querier
    owner: type[Owner] = Owner
    events: type[ReplicatedEvents] = ReplicatedEvents
    late_writer: type[SimulatedWriter] = SimulatedWriter  # where requests may be late


@dataclass(frozen=True)
class FleetScenario:
    """What happens in a schedule; numbers are upper bounds that the seed stays below."""

    services: int = 2
    commands: int = 8
    roles: tuple[str, ...] = ("append", "command")
    violence: float = 0.0065  # how often, in a step, a process is killed or stands still
    faults: float = 0.01
    failures: float = 0.5
    longest_lag: int = 300  # how many steps a primary is alone
    elections: float = 0.03  # how often, in a step, one that has what no other has is replaced
    expecting: float = 0.25  # how often a command is sent on a version
    late: float = 0.0  # how often something befalls a request of a transaction
    hesitates: float = 0.0  # how often the role command stands still with commands in hand
    parts: FleetParts = field(default_factory=FleetParts)

    @property
    def undisturbed(self) -> bool:
        """True when each partition has one owner, and nobody else fences it."""
        return not self.violence and not self.failures

    def smaller(self) -> list["FleetScenario"]:
        """Scenarios with fewer commands: there is none that is worth the time."""
        return []


class DatedEvents(ReplicatedEvents):
    """`dates`: for each aggregate, in which step each of its versions was there to read."""

    dates: dict[str, list[int]]

    def _replicate(self, shards: Iterable[int]) -> None:
        super()._replicate(shards)
        for key, head in drive(self._majority.heads(self.dates)).items():
            dates = self.dates[key]
            dates += [self._scheduler.steps] * (head.version - len(dates))


class LoopClock:
    """The clock of a process."""

    def __init__(self, loop: SimulatedLoop, seconds_off: float = 0.0) -> None:
        self._loop, self._off = loop, timedelta(seconds=seconds_off)

    def now(self) -> datetime:
        moment = self.steady() + self._off
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def steady(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class HesitantManager(Manager):
    """The Manager of a worker that may stand still before it decides, and before it puts."""

    world: "FleetWorld"

    async def _find_and_put(self, *about: Any) -> None:
        await self.world.hesitate()
        await super()._find_and_put(*about)

    async def _put(self, *about: Any) -> None:
        await self.world.hesitate()
        await super()._put(*about)


class HesitantCommander(Commander):
    """The Commander of such a worker: it may stand still once it knows that it may put."""

    world: "FleetWorld"

    async def put(self, *about: Any) -> Any:
        await self.world.hesitate()
        return await super().put(*about)


class FenceMeter:
    """Counts fences, and nothing else."""

    title = "a role"
    fields: ClassVar[dict[str, str]] = {}

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def fenced(self) -> None:
        self._scheduler.count("a partition is given up")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class LogSource:
    """Delivers the chunks of one worker: a ChunkSource over the log in memory."""

    def __init__(self, world: "FleetWorld", topic: str) -> None:
        self._world, self._topic = world, topic
        self.owners: Owners
        self._fetches: dict[int, asyncio.TimerHandle] = {}
        self._in_flight: dict[int, int] = {}

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        await checkpoint()
        self._in_flight[partition] = 0
        self._fetch_later(partition, offset, session)
        return True

    def end_session(self, partition: int) -> None:
        if fetch := self._fetches.pop(partition, None):
            fetch.cancel()

    def finish(self, partition: int, next_offset: int) -> None:
        self._in_flight[partition] -= 1

    async def ack(self, partition: int, next_offset: int) -> None:
        raise AssertionError("the roles commit by themselves")

    def lag(self, partition: int, done: int | None = None) -> int:
        return 0

    def oldest_timestamp(self, partition: int) -> int | None:
        return None

    def _fetch_later(self, *session: int) -> None:
        loop = asyncio.get_running_loop()
        self._fetches[session[0]] = loop.call_later(POLL_SECONDS, self._fetch, *session)

    def _fetch(self, partition: int, offset: int, session: int) -> None:
        """Deliver what is there by now, and come back."""
        if self._in_flight[partition] < MAX_CHUNKS_IN_FLIGHT:
            limit = self._world.random.randint(1, 5)
            waiting = self._world.tail(self._topic, partition, offset)
            if records := waiting[:limit]:
                after = records[-1].offset + 1
                if self._loses(more=len(waiting) > limit):
                    self._world.scheduler.count("a chunk is not delivered")
                else:
                    self._in_flight[partition] += 1
                    self.owners.dispatch(Chunk(partition, records, offset, after, session))
                offset = after
        if partition in self._fetches:
            self._fetch_later(partition, offset, session)

    def _loses(self, more: bool) -> bool:
        """Whether a chunk gets lost; its owner can know only where there is another after it."""
        return more and self._world.scheduler.chance(45 * self._world.faults.rate)


class FleetWorld:
    def __init__(self, scenario: FleetScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.loop = SimulatedLoop(self.scheduler)
        self.partitions = self.random.choice([1, 1, 2])
        self.aggregates = [f"a{i}" for i in range(self.random.randint(1, 2))]
        self.log = SimulatedLog(lambda: self.scheduler.steps)
        for topic in TOPICS:
            self.log.create(TopicSpec(topic, self.partitions, 1))
        store = type("Store", (DatedEvents, scenario.parts.events), {})
        self.events: Any = store(self.partitions, self.scheduler)
        self.network = Network(self.log, self.scheduler, scenario.late)
        self.events.dates = {key: [] for key in self.aggregates}
        self.snapshots = MemorySnapshots(2, checkpoint)
        self.faults = Faults(self.scheduler, scenario.faults)
        self.stores = DomainStores(
            ShakyEvents(self.events, self.faults), self.shaky(self.snapshots)
        )
        self.letters = self.shaky(MemoryDeadLetters(checkpoint))
        self.fault: Exception | None = None
        self.hesitate: Callable[[], Awaitable[None]] = checkpoint

    def shaky(self, inner: Any) -> Any:
        return Shaky(inner, self.faults)

    # Processes

    def manager(self, clock: LoopClock, *, hesitant: bool = False) -> Manager:
        parts, stores, n = self.scenario.parts, self.stores, self.partitions
        manager_class, commander_class = parts.manager, parts.commander
        if hesitant:
            manager_class = self._hesitant(HesitantManager, manager_class)
            commander_class = self._hesitant(HesitantCommander, commander_class)
        cache: LruCache[LiveState] = LruCache(self.random.randint(0, 2))
        querier = parts.querier(accounts, stores, clock, cache=cache)
        saver = SnapshotSaver(accounts, stores.snapshots, clock, limit=BIG)
        commander = commander_class(stores.events, saver, partitions=n)
        producer = self.shaky(MemoryProducer(self.log, checkpoint))
        publisher = EventPublisher(producer, TOPICS.events, clock, partitions=n)
        return manager_class(
            accounts, querier, commander, publisher, clock, jitter=self.random.random
        )

    def _hesitant(self, hesitant: type[Any], part: type[Any]) -> type[Any]:
        return type("Hesitant", (hesitant, part), {"world": self})

    async def work(self, name: str, released: asyncio.Event) -> None:
        """A worker of one role, until its partitions are released."""
        clock = self.clock()
        hesitant = name == "command" and self.scenario.hesitates > 0
        manager = self.manager(clock, hesitant=hesitant)
        source = LogSource(self, SOURCES[name])
        unanswered_fences: set[SourcePartition] = set()

        def make_role(partition: int, ack: Ack) -> Role:
            writer = self._writer(name, partition, unanswered_fences)
            return self._role(name, partition, manager, clock, writer)

        async with manager.running():
            meter: Any = FenceMeter(self.scheduler)
            owners = Owners(make_role, meter, TIMEOUTS, self._fail)
            source.owners = owners
            owners.assign(source, range(self.partitions))
            await released.wait()
            await owners.release()

    def clock(self) -> LoopClock:
        return LoopClock(self.loop, self.random.choice([-3.0, 0.0, 3.0]))

    def _writer(self, name: str, partition: int, unanswered_fences: set[SourcePartition]) -> Any:
        """Make the writer of a role; a process shares what it knows of its fences."""
        about = self.log, *self.source(name, partition), checkpoint
        if not self.scenario.late:
            return self.shaky(MemoryTransactionalWriter(*about))
        made = self.scenario.parts.late_writer(
            *about, network=self.network, unanswered_fences=unanswered_fences
        )
        return self.shaky(made)

    def _role(
        self, name: str, partition: int, manager: Manager, clock: LoopClock, writer: Any
    ) -> Role:
        parts, events = self.scenario.parts, self.stores.events
        if name == "append":
            producer = self.shaky(MemoryProducer(self.log, checkpoint))
            sweep = Sweep(
                accounts.topics.events, partition, events, producer, writer.watermarks, clock
            )
            return parts.append(
                *(accounts, partition, events, writer, clock),
                AppendParking(
                    accounts.topics, partition, MemoryDeadLetters(), clock, events, producer
                ),
                cached=2,
                sweep=sweep,
            )
        if name == "snapshot":
            return SnapshotRole(
                *(accounts, partition, self.stores, writer, self._parking(partition, clock), clock),
                cached=2,
                limit=BIG,
            )
        return parts.command_role(
            *(accounts, partition, manager, events.registry, writer, clock),
            decide_timeout=timedelta(seconds=1),
        )

    def _parking(self, partition: int, clock: LoopClock) -> Parking:
        return Parking(accounts.topics, "snapshot", partition, self.letters, clock)

    def _fail(self, partition: int, error: Exception) -> None:
        self.scheduler.note("fails:", error)
        self.fault = self.fault or error

    # What is there, seen at once

    def source(self, role: str, partition: int) -> tuple[str, str, int]:
        return consumer_group("sim", accounts.name, role), SOURCES[role], partition

    def partition(self, aggregate_id: str) -> int:
        return partition_of(aggregate_id, self.partitions)

    def tail(self, topic: str, partition: int, start: int = 0) -> list[LogRecord]:
        """The committed records from an offset on."""
        entries = self.log.entries(topic, partition)
        stable = self.log.last_stable_offset(topic, partition)
        return [
            entry.record
            for entry in entries[start:stable]
            if entry.record and not (entry.transaction and entry.transaction.aborted)
        ]

    def whole(self, topic: str) -> dict[int, list[LogRecord]]:
        return {p: self.tail(topic, p) for p in range(self.partitions)}

    def stored(self) -> History:
        return {key: events for key in self.aggregates if (events := drive(self._history(key)))}

    async def _history(self, aggregate_id: str) -> list[Any]:
        return [event async for event in self.events.read(aggregate_id)]

    def kept(self) -> list[Kept]:
        """Every snapshot in the store."""
        found: dict[tuple[str, int], Kept] = {}
        for key, events in self.stored().items():
            for version in range(1, len(events) + 1):
                shot = drive(self.snapshots.at(key, version, accounts.state_shape))
                if shot:
                    found[key, shot.version] = Kept(key, shot.version, list(shot.state["trail"]))
        return list(found.values())

    def caught_up(self) -> bool:
        return not any(
            self.tail(SOURCES[role], p, self.log.offsets.get(self.source(role, p), 0))
            for role in self.scenario.roles
            for p in range(self.partitions)
        )


async def serve(world: FleetWorld, ready: "asyncio.Future[tuple[Manager, LoopClock]]") -> None:
    """A service: its Manager decides until the process is killed."""
    clock = world.clock()
    manager = world.manager(clock)
    with suppress(asyncio.CancelledError):
        async with manager.running():
            ready.set_result((manager, clock))
            await asyncio.get_running_loop().create_future()
