"""Stores, log, clock and faults of one schedule, and the roles that work on them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.append_plan import PlacingPlan, Plan
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.roles.sweep import Sweep
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import DomainStores, PartitionWriter
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.log import MemoryProducer, MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.names import consumer_group
from eventfleet.topics.parked import ParkedAggregate, ParkedEntry, read_parked
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.checker import History, Kept, kept_in
from tests.simulation.faults import Faults, Shaky, ShakyEvents
from tests.simulation.recording_domain import (
    ALL,
    LOUD,
    PoisonedCode,
    Tally,
    marker_tally,
    sync_tally,
    tally,
    with_poison,
)
from tests.simulation.replicated_events import ReplicatedEvents
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_transactions import Network, OldBroker
from tests.simulation.simulated_writer import SimulatedWriter

TOPICS = tally.topics
SOURCES = {"append": TOPICS.events, "snapshot": TOPICS.stored, "relay": TOPICS.stored}
BIG = 1_000_000
MILLISECOND = timedelta(milliseconds=1)


class ServerClock:
    """The clock of one machine: a little off, and now and then set back."""

    def __init__(self, true: "FakeClock", seconds_off: float) -> None:
        self._true, self._off = true, timedelta(seconds=seconds_off)

    def now(self) -> datetime:
        return self._true.now() + self._off

    async def sleep(self, seconds: float) -> None:
        await checkpoint()

    def steady(self) -> datetime:
        return self._true.steady()

    def step(self, seconds: float) -> None:
        self._off += timedelta(seconds=seconds)


class FakeClock:
    """Moves when the scheduler says so; to wait is to let others run."""

    def __init__(self) -> None:
        self.time = datetime(2025, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def steady(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await checkpoint()

    def advance(self, milliseconds: int) -> None:
        self.time += milliseconds * MILLISECOND


@dataclass(frozen=True)
class RoleParts:
    """What the roles are made of; a test takes a rule out by putting another part in."""

    append: type[AppendRole] = AppendRole
    plan: type[Plan] = Plan
    placing: type[PlacingPlan] = PlacingPlan
    snapshots: type[SnapshotRole] = SnapshotRole
    relay: type[RelayRole] = RelayRole
    parking: type[LoggedParking] = LoggedParking
    snapshot_parking: type[Parking] = Parking
    reader: type[MemoryReader] = MemoryReader
    writer: type[MemoryTransactionalWriter] = MemoryTransactionalWriter
    late_writer: type[SimulatedWriter] = SimulatedWriter  # where requests may be late
    broker: type[OldBroker] = OldBroker
    events: type[ReplicatedEvents] = ReplicatedEvents
    snapshot_store: Callable[..., Any] = MemorySnapshots
    stubborn: tuple[type[Exception], ...] = ()  # after these an owner goes on from memory
    reads_uncommitted: bool = False
    minds_offsets: bool = True  # an owner stops where the log does not have its offset


@dataclass(frozen=True)
class RoleScenario:
    """What happens in a schedule; numbers are upper bounds that the seed stays below."""

    roles: tuple[str, ...]
    events: int = 8
    marked: bool = False
    puts: bool = False
    queries: int = 0
    fed: bool = False  # events are stored and emitted by the test, not by append
    failures: float = 0.6  # in how many schedules a primary is alone or replaced, and so on
    repeats: bool = True
    again: float = 0.2  # how often an event is followed by a repeat of any
    poison: float = 0.0  # how many events the code of the domain raises on, until it is mended
    late: float = 0.0  # how often something befalls a request of a transaction
    too_large: bool = False  # these are no poison, but too large for a topic, until that is mended
    parts: RoleParts = field(default_factory=RoleParts)

    def smaller(self) -> list["RoleScenario"]:
        """Scenarios with fewer events, the smallest first, and at last this one again."""
        return [replace(self, events=events) for events in (3, 5, self.events)]


class World:
    def __init__(self, scenario: RoleScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.partitions = self.random.choice([1, 1, 2])
        self.aggregates = [f"a{i}" for i in range(self.random.randint(1, 3))]
        self.clock = FakeClock()
        self.log = SimulatedLog(lambda: self.scheduler.steps)
        for topic in (*TOPICS, ALL, LOUD):
            self.log.create(TopicSpec(topic, self.partitions, 1))
        self.network = Network(self.log, self.scheduler, scenario.late, scenario.parts.broker)
        self.events = scenario.parts.events(self.partitions, self.scheduler)
        self.snapshots = scenario.parts.snapshot_store(2, checkpoint)
        self.letters = MemoryDeadLetters(checkpoint)
        self.code = PoisonedCode()
        self.mends = bool(scenario.poison) and self.scheduler.chance(
            0.5
        )  # otherwise what fails is discarded
        self.discards: set[tuple[str, str]] = set()  # that were asked for: role and event
        self.poisoned = with_poison(self.code)
        if scenario.too_large:
            self.log.refuses = self.is_too_large
        self.faults = Faults(self.scheduler, self.random.choice([0.0, 0.01, 0.04]))
        self.stores = DomainStores(
            ShakyEvents(self.events, self.faults), self.shaky(self.snapshots)
        )
        self.querier = Querier(tally, self.stores, self.clock)
        self.clocks: list[ServerClock] = []
        self.halted: set[tuple[str, int]] = set()
        self.put_ids: set[str] = set()
        self.acknowledged: set[str] = set()
        self.serial = 0

    def shaky(self, inner: Any) -> Any:
        return Shaky(inner, self.faults)

    # Roles

    @property
    def domain(self) -> Domain[Tally]:
        if self.scenario.puts:
            return sync_tally
        return marker_tally if self.scenario.marked else tally

    @property
    def reading(self) -> Domain[Tally]:
        """The domain as the roles have it that read what is stored."""
        return self.poisoned if self.scenario.poison and not self.scenario.too_large else tally

    def is_too_large(self, record: ProducerRecord) -> bool:
        poison = b'"poison":true' in (record.value or b"")
        return record.topic == ALL and poison and not self.code.mended

    def slots(self) -> list[tuple[str, int]]:
        return [(role, p) for role in self.scenario.roles for p in range(self.partitions)]

    def role(self, name: str, partition: int) -> Role:
        parts, cached = self.scenario.parts, self.random.randint(1, 3)
        writer, clock = self.writer(name, partition), self.new_clock()
        if name == "append":
            return parts.append(
                *(
                    self.domain,
                    partition,
                    self.stores.events,
                    writer,
                    clock,
                    self.append_parking(partition, clock),
                ),
                cached=cached,
                sweep=self.sweep(partition, clock) if self.scenario.puts else None,
            )
        if name == "snapshot":
            return parts.snapshots(
                *(
                    self.reading,
                    partition,
                    self.stores,
                    writer,
                    self.parking(partition, clock),
                    clock,
                ),
                cached=cached,
                limit=BIG,
            )
        return parts.relay(
            self.reading,
            partition,
            self.stores.events,
            writer,
            self.logged_parking(partition, clock),
        )

    def append_parking(self, partition: int, clock: ServerClock) -> AppendParking:
        """What append keeps where nothing of it is poison."""
        letters, producer = MemoryDeadLetters(), MemoryProducer(self.log)
        return AppendParking(TOPICS, partition, letters, clock, self.stores.events, producer)

    def parking(self, partition: int, clock: ServerClock) -> Parking:
        parking = self.scenario.parts.snapshot_parking
        return parking(TOPICS, "snapshot", partition, self.shaky(self.letters), clock)

    def logged_parking(self, partition: int, clock: ServerClock) -> LoggedParking:
        reader = self.scenario.parts.reader(self.log, checkpoint)
        return self.scenario.parts.parking(
            *(TOPICS, "relay", partition, self.shaky(self.letters), clock),
            TopicParkedLog(TOPICS, self.shaky(reader)),
        )

    def parked(self) -> list[ParkedAggregate]:
        """What the roles park, and what is listed so."""
        log = TopicParkedLog(TOPICS, MemoryReader(self.log))
        logged = [drive(log.load("relay", p)) for p in range(self.partitions)]
        listed = drive(self.letters.find(ParkedQuery(), 100))
        return [each for entries in logged for each in entries.parked] + listed

    def logged(self, role: str) -> list[ParkedEntry]:
        """What the log has ever said of what a role parks, and of its discards."""
        places = [self.log.entries(TOPICS.parked, p) for p in range(self.partitions)]
        committed = [
            each.record
            for entries in places
            for each in entries
            if each.record
            and not (each.transaction and (each.transaction.open or each.transaction.aborted))
        ]
        said = [read_parked(record)[1] for record in committed]
        return [entry for entry in said if entry and entry.role == role]

    def sweep(self, partition: int, clock: ServerClock) -> Sweep:
        producer = self.shaky(self.producer())
        watermarks = self.writer("append", partition).watermarks
        return Sweep(
            tally.topics.events, partition, self.stores.events, producer, watermarks, clock
        )

    def new_clock(self) -> ServerClock:
        clock = ServerClock(self.clock, self.random.choice([-3.0, 0.0, 0.0, 3.0]))
        self.clocks.append(clock)
        return clock

    def writer(self, role: str, partition: int) -> PartitionWriter:
        source, parts = self.source(role, partition), self.scenario.parts
        if self.scenario.late:
            made = parts.late_writer(self.log, *source, checkpoint, network=self.network)
        else:
            made = parts.writer(self.log, *source, checkpoint)
        writer: PartitionWriter = self.shaky(made)
        return writer

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self.log, checkpoint)

    # What is there, seen at once and without a step

    def partition(self, aggregate_id: str) -> int:
        return partition_of(aggregate_id, self.partitions)

    def source(self, role: str, partition: int) -> tuple[str, str, int]:
        return consumer_group("sim", tally.name, role), SOURCES[role], partition

    def tail(
        self, topic: str, partition: int, start: int = 0, committed: bool = True
    ) -> list[LogRecord]:
        """The records from an offset on, removed ones too: who reads minds the offset."""
        entries = self.log.entries(topic, partition)[start:]
        if committed:
            stable = self.log.last_stable_offset(topic, partition)
            entries = [
                entry
                for entry in entries[: max(0, stable - start)]
                if not (entry.transaction and entry.transaction.aborted)
            ]
        return [entry.record for entry in entries if entry.record]

    def whole(self, topic: str) -> dict[int, list[LogRecord]]:
        return {p: self.tail(topic, p) for p in range(self.partitions)}

    def sound(self, stored: History) -> History:
        """Without the aggregates whose append has stopped."""
        stopped = {p for name, p in self.halted if name == "append"}
        return {key: es for key, es in stored.items() if self.partition(key) not in stopped}

    def sound_log(self, topic: str) -> dict[int, list[LogRecord]]:
        """The records of a topic without those partitions."""
        stopped = {p for name, p in self.halted if name == "append"}
        return {p: records for p, records in self.whole(topic).items() if p not in stopped}

    def committed(self, role: str, partition: int) -> int:
        return self.log.offsets.get(self.source(role, partition), 0)

    def stored(self) -> History:
        return {key: events for key in self.aggregates if (events := drive(self._history(key)))}

    async def _history(self, aggregate_id: str) -> list[Any]:
        return [event async for event in self.events.read(aggregate_id)]

    def kept(self) -> list[Kept]:
        """Every snapshot in the store, by aggregate and version."""
        found: dict[tuple[str, int], Kept] = {}
        for key, events in self.stored().items():
            for version in range(1, len(events) + 1):
                shot = drive(self.snapshots.at(key, version, tally.state_shape))
                if shot:
                    found[key, shot.version] = Kept(key, shot.version, list(shot.state["trail"]))
        return list(found.values())

    def latest_kept(self) -> dict[str, int]:
        found = drive(self.snapshots.latest(self.aggregates, tally.state_shape))
        return {key: shot.version for key, shot in found.items()}

    def kept_in_topic(self) -> list[Kept]:
        return [kept_in(r) for records in self.whole(TOPICS.snapshots).values() for r in records]
