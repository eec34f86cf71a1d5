"""Redis, the log, the store and the services of one schedule of the marker protocol."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from datetime import timedelta
from functools import partial
from itertools import chain
from random import Random
from typing import Any

import orjson
from msgspec.structs import replace

from eventfleet.deciders.append_watch import NoWatch
from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.marker_decider import MarkerDecider
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.append_plan import AppendItem, Plan
from eventfleet.roles.append_reader import AppendReader
from eventfleet.roles.command import CommandRole
from eventfleet.roles.notices import PREFIX as NOTICES
from eventfleet.roles.notices import AwaitedEvent, notices_of, reply_to
from eventfleet.stores.contracts import (
    Disposition,
    Page,
    ParkedWrite,
    ParkEvent,
    PlaceParked,
    RefuseParked,
    Stage,
)
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis, RedisData
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.names import consumer_group
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.checker import History
from tests.simulation.commands import items
from tests.simulation.faults import Faults, Shaky, ShakyEvents
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.world import FakeClock, ServerClock

TOPICS = items.topics
PREFIX = "sim"
APPEND_GROUP = consumer_group(PREFIX, items.name, "append")
TERMS = MarkerTimeouts(expiry=20.0, lease=0.4, memory=20.0)
DEADLINE = 8.0
NEW_CODE = 0.5
"""How many owners of append have mended code, while others have old code."""
HESITATES_AT = ("find", "mark", "note_owner")
"""Calls at which who decides the topic's commands may stand still."""
MAX_TICKS_SECONDS = 0.01
"""Where the clock is further back than that, it was set back."""
PRODUCE = 8.0
"""Seconds until a produce gives up, and until then its records may come into the log."""


@dataclass(frozen=True)
class MarkerParts:
    """What the protocol is made of; a test takes a rule out by putting another part in."""

    marking: type[MarkerDecider] = MarkerDecider
    guard: type[LagGuard] = LagGuard
    incarnations: type[IncarnationReader] = IncarnationReader
    redis: type[MemoryRedis] = MemoryRedis
    plan: type[Plan] = Plan
    parking: type[AppendParking] = AppendParking
    events: type[MemoryEvents] = MemoryEvents
    command: type[CommandRole] = CommandRole


@dataclass(frozen=True)
class MarkerScenario:
    """What happens in a schedule: how often, in a hundred steps, and to whom.

    `losses` is how many times Redis may lose everything, `dumps` how many times it may restart
    from an old dump; `freezes` is how often it loses everything just when somebody has noted. Where
    it loses nothing records may come into the log as `late` as they like.
    """

    services: int = 2
    busy: int = 400  # the most steps before it goes quiet
    clients: int = 3
    commands: int = 3
    aggregates: int = 1
    kills: float = 0.0
    stalls: float = 0.0
    jumps: float = 0.0
    losses: int = 0
    dumps: int = 0
    freezes: float = 0.0
    late: bool = False
    faults: float = 0.0
    lag: float = 0.0
    owners: float = 0.0  # how often append gets an owner beside the one it has, or loses one
    poison: float = 0.0  # how many events old code of append raises on
    slow: float = (
        0.0  # how often an owner that decides on a parked event stands still, and another comes
    )
    begins: float = 0.0  # how often who finds that nothing was ever there stands still then
    # How often who decides the topic's commands stands still with one in hand, and another comes;
    # commands go by the topic only where that happens.
    hesitates: float = 0.0
    hesitates_at: tuple[str, ...] = HESITATES_AT  # in a schedule at one of these calls
    clocks: bool = False  # services and Redis have clocks of their own, which step back
    echoes: float = 0.2
    names: tuple[str, ...] = ("Open", "Lend", "Lend", "Return", "Return", "Sell", "Note")
    parts: MarkerParts = field(default_factory=MarkerParts)

    def smaller(self) -> list["MarkerScenario"]:
        """Scenarios with fewer commands, the smallest first."""
        sizes = ((1, 1), (2, 1), (2, 2))
        return [
            with_changes(self, clients=clients, commands=commands, aggregates=1)
            for clients, commands in sizes
        ]


class Network:
    """A producer's way to the log: a record under way outlives its sender, up to a bound."""

    def __init__(self, world: "MarkerWorld") -> None:
        self._world = world

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        world, positions = self._world, []
        until = world.clock.now() + timedelta(seconds=PRODUCE)
        arrived: list[Position] = []

        async def deliver() -> None:
            for record in records:
                await checkpoint()
                if world.clock.now() >= until and not world.scenario.late:
                    return
                arrived.append(world.log.append(record))
                world.scheduler.note("in the log at", [arrived[-1], record])

        world.scheduler.start("network", deliver(), "network")
        while len(arrived) < len(records):
            await checkpoint()
            if world.clock.now() >= until:
                raise ServerUnavailable("the log has not acknowledged it in time")
        positions += arrived
        return positions


class Remote(Shaky):
    """A server elsewhere: a call takes its time there and back, and may fail either way."""

    def _calling(self, method: str, call: Any) -> Any:
        shaky = super()._calling(method, call)

        async def sent(*args: Any, **named: Any) -> Any:
            result = await shaky(*args, **named)
            await checkpoint()
            return result

        return sent


class SimulatedWatch(NoWatch):
    """Receives append's notices, but for those that are lost."""

    def __init__(self, world: "MarkerWorld", clock: ServerClock) -> None:
        super().__init__(clock)
        self.noticed: set[str] = set()
        world.watches.append(self)

    async def expect(self, event_id: str) -> str | None:
        await checkpoint()
        return reply_to(f"{NOTICES}service", event_id)

    def has_noticed(self, event_id: str) -> bool:
        return event_id in self.noticed


class HesitantStore(Remote):
    """The store of a service that may stand still when it has read that nothing is stored."""

    def __init__(self, world: "MarkerWorld") -> None:
        super().__init__(world.events, world.faults)
        self._world = world

    async def aggregates(self, cursor: str, limit: int) -> Page:
        page: Page = await self.inner.aggregates(cursor, limit)
        if self._world.random.random() < self._world.scenario.begins:
            for _ in range(self._world.random.randint(5, 25)):
                await checkpoint()
        return page


class DeskStore(HesitantStore):
    """The store of who decides a partition's commands: it may stand still when it knows that they
    are not stored."""

    def __init__(self, world: "MarkerWorld", partition: int) -> None:
        super().__init__(world)
        self._partition = partition
        self._find = self._calling("find", self.inner.find)

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        found: dict[EventKey, EventRecord] = await self._find(keys)
        self._world.hesitate(self._partition, "find")
        await checkpoint()
        return found


class Desk(Remote):
    """A server as the one who decides a partition's commands calls it, and may stand still before
    some calls: in a schedule before those of one method."""

    def __init__(self, inner: Any, world: "MarkerWorld", partition: int, *methods: str) -> None:
        super().__init__(inner, world.faults)
        self._world, self._partition, self._methods = world, partition, methods

    def _calling(self, method: str, call: Any) -> Any:
        calling = super()._calling(method, call)
        return self._hesitating(method, calling) if method in self._methods else calling

    def _hesitating(self, method: str, calling: Any) -> Any:
        async def hesitating(*args: Any) -> Any:
            self._world.hesitate(self._partition, method)
            await checkpoint()
            return await calling(*args)

        return hesitating


class SimulatedService:
    """A process with its own guard; what it has in memory goes with it.

    `decides`: the partition whose commands it decides, if it does.
    """

    def __init__(self, world: "MarkerWorld", decides: int | None = None) -> None:
        parts, random = world.scenario.parts, world.random
        self.clock = world.new_clock()
        markers: Any = Remote(
            MemoryMarkers(world.redis, items.name, TERMS, checkpoint), world.faults
        )
        if decides is not None:
            markers = Desk(markers.inner, world, decides, "note_owner", "mark")
        reader: Any = Remote(MemoryReader(world.log, checkpoint), world.faults)
        store: Any = HesitantStore(world) if decides is None else DeskStore(world, decides)
        network: Any = Remote(Network(world), world.faults)
        self.world = world
        registry: Any = Remote(world.events.registry, world.faults)
        incarnations = parts.incarnations(markers, registry, reader, TOPICS.events, store)
        self.guard = parts.guard(
            *(incarnations, reader, store, self.clock),
            group=APPEND_GROUP,
            topic=TOPICS.events,
            expiry=TERMS.expiry,
        )
        self.marking = parts.marking(
            *(store, markers, network, self.guard, self.clock),
            topic=TOPICS.events,
            partitions=world.partitions,
            chance=random.random,
            letters=Remote(world.letters, world.faults),
            watch=SimulatedWatch(world, self.clock),
        )
        self.looked_from = -1
        """The step in which the guard's last whole look began."""
        self.has_ended = False

    async def beat(self) -> None:
        while not self.has_ended:
            began = self.world.scheduler.steps
            try:
                await self.guard.update()
                self.looked_from = began
            except ServerUnavailable:
                await checkpoint()
            for _ in range(self.world.random.randint(0, 8)):
                await checkpoint()


class SettableRedis(MemoryRedis):
    """Redis on a machine whose clock may be set back."""

    def _time(self) -> float:
        now = self._now()
        self._last = now if now < self._last - MAX_TICKS_SECONDS else super()._time()
        return self._last


class DatedEvents(MemoryEvents):
    """Keeps the steps in which things happened.

    `dates`: in which step each event was stored, by id; `parked_at`: where it was parked.
    """

    def __init__(self, partitions: int, scheduler: Scheduler) -> None:
        super().__init__(partitions, checkpoint)
        self._scheduler = scheduler
        self.dates: dict[str, int] = {}
        self.parked_at: dict[str, Position] = {}
        self._parked_since: dict[str, int] = {}

    def _park(self, index: int, write: ParkedWrite) -> None:
        super()._park(index, write)
        if isinstance(write, ParkEvent):
            self.parked_at[write.event.id] = write.position
        aggregate_id = write.event.aggregate_id
        self._parked_since.setdefault(aggregate_id, self._scheduler.steps)
        if self.parked_since(aggregate_id) is None:
            del self._parked_since[aggregate_id]

    def parked_since(self, aggregate_id: str) -> int | None:
        """Return the step since which an aggregate is parked, if it is."""
        parked = any(key.aggregate_id == aggregate_id for key in self._refused)
        return self._parked_since[aggregate_id] if parked else None

    def _keep(self, event: EventRecord) -> None:
        super()._keep(event)
        self.dates.setdefault(event.id, self._scheduler.steps)


class PoisonedAppend(AppendRole):
    """Append with code that raises on some events, unless it is mended; it may be slow to decide on
    what is redriven."""

    def __init__(
        self,
        *args: Any,
        poisoned: Callable[[EventRecord], bool],
        before_decision: Callable[[], Awaitable[None]],
        **named: Any,
    ) -> None:
        super().__init__(*args, **named)
        self._reader = PoisonedReader(self._domain, poisoned)
        self._before_decision = before_decision

    async def _write(self, plan: Any, items: Sequence[AppendItem]) -> Any:
        if any(isinstance(write, PlaceParked | RefuseParked) for write in plan.writes):
            await self._before_decision()
        return await super()._write(plan, items)


class PoisonedReader(AppendReader):
    def __init__(self, domain: Domain[Any], poisoned: Callable[[EventRecord], bool]) -> None:
        super().__init__(domain)
        self._poisoned = poisoned

    def _fault(self, event: EventRecord, redriven: bool) -> Exception | None:
        return ValueError("poison") if self._poisoned(event) else super()._fault(event, redriven)


class MarkerWorld:
    def __init__(self, scenario: MarkerScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.partitions = self.random.choice([1, 1, 2])
        self.aggregates = [f"a{i}" for i in range(scenario.aggregates)]
        self.clock = FakeClock()
        self.log = SimulatedLog(lambda: self.scheduler.steps)
        for topic in TOPICS:
            self.log.create(TopicSpec(topic, self.partitions, 1))
        events = type("DatedEvents", (DatedEvents, scenario.parts.events), {})
        self.events: DatedEvents = events(self.partitions, self.scheduler)
        self.clocks: list[ServerClock] = []
        self.redis_clock = self.new_clock()
        redis = type("SettableRedis", (SettableRedis, scenario.parts.redis), {})
        self.redis: MemoryRedis = redis(lambda: self.redis_clock.now().timestamp())
        self.dump: RedisData = self.redis.dump()
        self.faults = Faults(self.scheduler, scenario.faults)
        self.lost = False
        self.letters = MemoryDeadLetters(checkpoint)
        self.mended = False
        self.handovers: list[int] = []
        self.watches: list[SimulatedWatch] = []
        self.assigned: dict[int, SimulatedService] = {}
        """Who is to decide the commands of each partition."""
        self.hesitate: Callable[[int, str], None] = lambda partition, method: None
        self.hesitates_at = self.random.choice(scenario.hesitates_at) if scenario.hesitates else ""
        self.poison: dict[str, bool] = {}

    def is_poison(self, event: EventRecord) -> bool:
        """Say whether old code raises on an event; of one id it says the same for ever."""
        rate = self.scenario.poison
        return self.poison.setdefault(event.id, bool(rate) and self.random.random() < rate)

    def new_clock(self) -> ServerClock:
        off = self.random.choice([-3.0, 0.0, 3.0]) if self.scenario.clocks else 0.0
        self.clocks.append(clock := ServerClock(self.clock, off))
        return clock

    # Append, behind by as much as the scheduler likes

    async def append(self, partition: int) -> None:
        """The owner of a partition."""
        source = APPEND_GROUP, TOPICS.events, partition
        writer = Shaky(MemoryTransactionalWriter(self.log, *source, checkpoint), self.faults)
        store: Any = ShakyEvents(self.events, self.faults)
        letters: Any = Shaky(self.letters, self.faults)
        network: Any = Remote(Network(self), self.faults)
        parking = self.scenario.parts.parking(
            TOPICS, partition, letters, self.clock, store, network
        )
        new_code = self.mended or self.random.random() < NEW_CODE
        role = PoisonedAppend(
            *(items, partition, store, writer, self.clock, parking),
            cached=self.random.randint(1, 3),
            notifier=self,
            poisoned=lambda event: not new_code and self.is_poison(event),
            before_decision=partial(self._stand_still, partition),
        )
        while True:
            try:
                await self._append(role, partition)
            except ServerUnavailable:
                await checkpoint()
            except Fenced:
                return

    def notify(
        self, stage: Stage, events: Sequence[AwaitedEvent], disposition: Disposition | None = None
    ) -> None:
        """Each service gets a notice or misses it."""
        for notices in notices_of(stage, events, disposition).values():
            for watch in self.watches:
                if self.random.random() < 0.7:
                    watch.noticed |= {notice.event_id for notice in notices}

    async def _stand_still(self, partition: int) -> None:
        if not self.mended and self.random.random() < self.scenario.slow:
            self.handovers.append(partition)
            for _ in range(self.random.randint(10, 80)):
                await checkpoint()

    async def _append(self, role: AppendRole, partition: int) -> None:
        offset = await role.open()
        while True:
            await checkpoint()
            if self.scenario.poison:
                await role.tick()
            records = self.records(TOPICS.events, partition)[offset:][: self.random.randint(1, 4)]
            if records:
                offset = records[-1].offset + 1
                self.scheduler.note("takes up to", offset)
                await role.process(records, offset)
                self.scheduler.note("has committed", offset)

    async def command(self, partition: int, service: SimulatedService) -> None:
        """The owner of a partition of the commands."""
        self.assigned[partition] = service
        source = consumer_group(PREFIX, items.name, "command"), TOPICS.commands, partition
        writer = Shaky(MemoryTransactionalWriter(self.log, *source, checkpoint), self.faults)
        registry: Any = Desk(self.events.registry, self, partition, "note_owner")
        role = self.scenario.parts.command(
            *(items, partition, service.marking, registry, writer, service.clock),
            decide_timeout=timedelta(seconds=DEADLINE),
        )
        while True:
            try:
                await self._command(role, partition)
            except ServerUnavailable:
                await checkpoint()
            except Fenced:
                await checkpoint()
                if self.assigned[partition] is not service:
                    service.has_ended = True
                    return

    async def _command(self, role: CommandRole, partition: int) -> None:
        offset = await role.open()
        while True:
            await checkpoint()
            records = self.records(TOPICS.commands, partition)[offset:][: self.random.randint(1, 3)]
            if records:
                offset = records[-1].offset + 1
                await role.process(records, offset)

    def replies(self) -> dict[str, dict[str, Any]]:
        """The replies to commands of the topic, by their correlation ids."""
        records = chain.from_iterable(self.whole(TOPICS.replies).values())
        replies = [orjson.loads(record.value or b"") for record in records]
        return {reply["correlation_id"]: reply for reply in replies}

    def put(self, event: EventRecord) -> None:
        """An aggregate's first event, as if it were there since long."""
        key, value = event.aggregate_id.encode(), encode(replace(event, prev=""))
        partition = partition_of(event.aggregate_id, self.partitions)
        at = self.log.append(ProducerRecord(TOPICS.events, key, value, partition))
        placed = replace(event, prev="", version=1, position=str(at))
        drive(self.events.write([placed]))
        drive(self.events.registry.note_next_offset(partition, 0, at.offset + 1))
        self.log.append(ProducerRecord(TOPICS.stored, key, encode(placed), partition))
        self.log.offsets[APPEND_GROUP, TOPICS.events, partition] = at.offset + 1

    def caught_up(self) -> bool:
        offsets = self.log.offsets
        return all(
            offsets.get((APPEND_GROUP, TOPICS.events, p), 0)
            == len(self.log.entries(TOPICS.events, p))
            for p in range(self.partitions)
        )

    def noted(self) -> bool:
        return any(marker.note for marker in self.redis.data.markers.values())

    # What is there, seen at once and without a step

    def records(self, topic: str, partition: int) -> list[LogRecord]:
        entries = self.log.entries(topic, partition)[
            : self.log.last_stable_offset(topic, partition)
        ]
        aborted = (entry.transaction and entry.transaction.aborted for entry in entries)
        return [e.record for e, gone in zip(entries, aborted, strict=True) if e.record and not gone]

    def whole(self, topic: str) -> dict[int, list[LogRecord]]:
        return {p: self.records(topic, p) for p in range(self.partitions)}

    def stored(self) -> History:
        return {key: events for key in self.aggregates if (events := drive(self._history(key)))}

    def arrivals(self, stored: History) -> dict[str, int]:
        """The step in which each of these events came into the log; of one that was parked its
        first record."""
        dates, events = self.log.dates, (event for found in stored.values() for event in found)
        places = {event.id: Position.parse(event.position or "") for event in events}
        for id in places.keys() & self.events.parked_at.keys():
            places[id] = self.events.parked_at[id]
        return {key: dates[TOPICS.events, at.partition, at.offset] for key, at in places.items()}

    def appends(self) -> dict[str, int]:
        """The step in which each event was stored."""
        return self.events.dates

    async def _history(self, aggregate_id: str) -> list[Any]:
        return [event async for event in self.events.read(aggregate_id)]
