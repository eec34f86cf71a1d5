"""The log, the stores and the owners of partitions of one schedule of the project role."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from random import Random
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import DecodeEvent, make_typed_decoder
from eventfleet.model.views import View
from eventfleet.roles.build_parking import BuildParking, build_name
from eventfleet.roles.notices import NULL_NOTIFIER
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.projected_reader import PROJECTED_FIELDS
from eventfleet.roles.view_projector import ViewProjector, first_times
from eventfleet.stores.contracts import DomainStores, Stage
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.contracts.views import BuildProgress, StoredRow, ViewBuild, ViewBuilds
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryRows, MemoryViews
from eventfleet.stores.memory.yield_point import no_yield
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.checker import BrokenInvariant
from tests.simulation.faults import Faults, Shaky
from tests.simulation.projection_checker import Histories, Reader, answer_of
from tests.simulation.projection_code import ADD, TRAILS, PoisonedCode
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_transactions import Network
from tests.simulation.simulated_writer import SimulatedWriter
from tests.simulation.world import FakeClock
from tests.unit.view_fixture import ACCOUNTS, NOTES, in_version, till

ONE, TWO = ACCOUNTS, in_version(ACCOUNTS, 2)
VERSIONS = {view.shape: view for view in (ONE, TWO)}
CODE = PoisonedCode()
DOMAINS = {
    "one": till(ONE),
    "two": till(TWO),
    "neither": till(NOTES),
    "poisoned one": till(CODE.accounts(ONE), CODE.trails(TRAILS)),
    "poisoned two": till(CODE.accounts(TWO), CODE.trails(TRAILS)),
}
TOPICS = Topics.of("till", "")
TOPIC = TOPICS.stored
GROUP = "project"
MAX_VERSION = 2**63

DECODERS = {id(domain): make_typed_decoder(domain, PROJECTED_FIELDS) for domain in DOMAINS.values()}


def decoder_of(domain: Domain[Any], fields: Collection[str]) -> DecodeEvent:
    """What decodes a domain's events; to make it takes as long as all the rest of a schedule."""
    assert fields == PROJECTED_FIELDS
    return DECODERS[id(domain)]


@dataclass(frozen=True)
class ProjectionParts:
    """What the role is made of; a test takes a rule out by putting another part in."""

    role: type[ProjectRole] = ProjectRole
    projector: type[ViewProjector] = ViewProjector
    rows: type[MemoryRows] = MemoryRows
    totals: type[MemoryRows] = MemoryRows
    views: type[MemoryViews] = MemoryViews
    first_times: Callable[..., Sequence[Any]] = first_times
    parking: type[BuildParking] = BuildParking
    late_writer: type[SimulatedWriter] = SimulatedWriter  # where requests may be late
    partitions: Callable[[int], int] = lambda partitions: partitions  # those that a build is of


@dataclass(frozen=True)
class ProjectionScenario:
    """What happens in a schedule, and how often, in a hundred steps."""

    events: int = 14
    accounts: int = 3
    busy: int = 500  # at most so many steps
    owners: float = 0.0  # a partition gets an owner beside the one it has
    kills: float = 0.0
    pauses: float = 0.0  # how often one stands still before a call, and is perhaps replaced
    late_notes: float = 0.0  # the same, before it says that a build is ready, or makes it live
    faults: float = 0.0
    rebuilds: float = 0.0
    rewinds: float = 0.0
    repeats: float = 0.0  # how often an event is emitted once more
    days: float = 0.0  # how often so much time passes that tombstones are removed
    late: float = 0.0  # how often something befalls a request of a transaction
    poison: float = 0.0  # how many events the code raises on, until it is mended
    deployments: float = 0.0  # how often that code is mended, or set back
    fleet: tuple[str, ...] = ("two",)  # what the owners declare
    code: str = ""  # what alone raises
    rolls_back: bool = False  # owners of version one end a schedule
    parts: ProjectionParts = field(default_factory=ProjectionParts)

    @property
    def newest(self) -> str:
        """What the owners declare who end a schedule."""
        if self.rolls_back:
            return "poisoned one"
        return "poisoned two" if self.poison else "two"

    @property
    def views(self) -> tuple[View[Any], ...]:
        """The views that they keep, as code keeps them that does not raise."""
        if self.rolls_back:
            return (ONE, TRAILS)
        return (TWO, TRAILS) if self.poison else (TWO,)

    def smaller(self) -> list["ProjectionScenario"]:
        """Scenarios with fewer events, the smallest first."""
        return [with_changes(self, events=events, accounts=1) for events in (3, 6)]


class WatchedTable(dict[str, StoredRow]):
    """The rows of a table by id; `watch` sees each change."""

    def __init__(self, watch: Callable[[str, StoredRow | None], None]) -> None:
        self._watch = watch

    def __setitem__(self, id: str, row: StoredRow) -> None:
        super().__setitem__(id, row)
        self._watch(id, row)

    def __delitem__(self, id: str) -> None:
        super().__delitem__(id)
        self._watch(id, None)


class WatchedBuilds(dict[str, ViewBuilds]):
    """The builds by view; `watch` sees each change."""

    def __init__(self, watch: Callable[[ViewBuilds, ViewBuilds], None]) -> None:
        self._watch = watch

    def __setitem__(self, view: str, builds: ViewBuilds) -> None:
        before = self.get(view, ViewBuilds())
        super().__setitem__(view, builds)
        if view == ONE.name:
            self._watch(before, builds)


class Pausing(Shaky):
    """Servers before whose calls a caller may stand still, while another takes its place."""

    def __init__(self, inner: Any, world: "ProjectionWorld") -> None:
        super().__init__(inner, world.faults)
        self.world = world

    def _calling(self, method: str, call: Any) -> Any:
        shaky = super()._calling(method, call)

        async def paused(*args: Any, **named: Any) -> Any:
            await self.world.pause(self.world.scenario.pauses)
            return await shaky(*args, **named)

        return paused


class PausingRows(Pausing):
    """Rows that are saved in any order, and perhaps only some of them."""

    async def save(self, rows: Sequence[StoredRow]) -> None:
        await self.world.pause(self.world.scenario.pauses)
        rows, scheduler = list(rows), self.faults.scheduler
        scheduler.random.shuffle(rows)
        if rows and scheduler.chance(self.faults.rate):
            done = rows[: scheduler.random.randrange(len(rows))]
            await self.inner.save(done)
            scheduler.note("saves rows, but only", done)
            raise ServerUnavailable("save: not all was done")
        await self.faults.call("saves rows", rows, lambda: self.inner.save(rows))


class PausingViews(Pausing):
    """Views, and their tables.

    Who stands still just before it says that a build is ready, or makes it live, does most harm.
    """

    async def note_progress(
        self, view: str, number: int, partition: int, known: BuildProgress, progress: BuildProgress
    ) -> bool:
        if progress.ready:
            await self.world.pause(self.world.scenario.late_notes)
        return bool(
            await self.faults.call(
                "note_progress",
                (view, number, partition, known, progress),
                lambda: self.inner.note_progress(view, number, partition, known, progress),
            )
        )

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        await self.world.pause(self.world.scenario.late_notes)
        return bool(
            await self.faults.call(
                "make_live",
                (view, number, partitions),
                lambda: self.inner.make_live(view, number, partitions),
            )
        )

    def rows(self, view: str, table: str, number: int) -> PausingRows:
        return PausingRows(self.inner.rows(view, table, number), self.world)


class Owner:
    """One that owns a partition, or believes so; `busy` while it has anything in hand."""

    def __init__(self, partition: int) -> None:
        self.partition, self.busy = partition, False


class Told:
    """A StageNotifier of an owner, by what it declares."""

    def __init__(self, world: "ProjectionWorld", declared: str) -> None:
        self._world, self._view = world, DOMAINS[declared].views[0]

    def notify(self, stage: Stage, events: Sequence[Any], disposition: Any = None) -> None:
        if disposition is None:
            self._world.notify(self._view, events)


class ProjectionWorld:
    def __init__(self, scenario: ProjectionScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.partitions = self.random.choice([1, 1, 2])
        self.clock = FakeClock()
        self.log = SimulatedLog(lambda: self.scheduler.steps)
        for topic in TOPICS:
            self.log.create(TopicSpec(topic, self.partitions, 1))
        self.network = Network(self.log, self.scheduler, scenario.late)
        self.events = MemoryEvents(self.partitions, checkpoint)
        self.histories = Histories(VERSIONS.values())
        self.code = CODE.renew(self.random, *([] if scenario.deployments else [ADD]))
        if scenario.code:
            self.code.raise_only(scenario.code)
        self.reader = Reader(self.histories, self.code.poisoned)
        self.views = self._make_views()
        self.faults = Faults(self.scheduler, scenario.faults)
        events: Any = Pausing(self.events, self)
        views: Any = PausingViews(self.views, self)
        self.stores = DomainStores(events, MemorySnapshots(), views)
        # Where nothing is parked, what is read of it takes no steps.
        self.letters = MemoryDeadLetters(checkpoint if scenario.poison else no_yield)
        self.shaky_letters: Any = self._parks(self.letters)
        # Whether owners try again, unasked, what others have parked.
        self.retries = bool(scenario.poison) and self.scheduler.chance(0.5)
        # Otherwise what fails is discarded.
        self.mends = bool(scenario.poison) and self.scheduler.chance(0.5)
        self.discards: set[tuple[str, int]] = set()  # that were asked for
        self.paused, self.pausing = list[str](), True
        self.overlapped = False
        self.placed: dict[bytes | None, tuple[str, int]] = {}  # account and version, by record

    def _parks(self, server: Any) -> Any:
        return Pausing(server, self) if self.scenario.poison else server

    def build(self, view: View[Any]) -> None:
        """Have a live build from before all events."""
        nothing, views = BuildProgress(), MemoryViews()
        views._builds = self.views._builds
        drive(views.begin(view.name, [], view.shape, 0))
        for partition in range(self.partitions):
            ready = nothing._replace(ready=True)
            drive(views.note_progress(view.name, 1, partition, nothing, ready))
        drive(views.make_live(view.name, 1, self.partitions))

    # The views, and what a reader sees of them

    def _make_views(self) -> MemoryViews:
        views = self.scenario.parts.views(checkpoint)
        views._builds = WatchedBuilds(self._see_builds)
        views.rows = self._rows  # type: ignore[method-assign]
        return views

    def _rows(self, view: str, table: str, number: int) -> MemoryRows:
        kept, parts = self.views._rows, self.scenario.parts
        key = view, number, table
        if key not in kept:
            kept[key] = (parts.rows if table == view else parts.totals)(checkpoint)
            if table == ONE.name:
                kept[key]._rows = WatchedTable(lambda id, row: self._see_row(number, id, row))
        return kept[key]

    @property
    def builds(self) -> ViewBuilds:
        return self.builds_of(ONE)

    def builds_of(self, view: View[Any]) -> ViewBuilds:
        return self.views._builds.get(view.name, ViewBuilds())

    def table(self, name: str, number: int, view: View[Any] = ONE) -> dict[str, StoredRow]:
        return self._rows(view.name, name, number)._rows

    def _see_row(self, number: int, id: str, row: StoredRow | None) -> None:
        live = self.builds.live
        if live and live.number == number:
            version = live.shape.version
            self.reader.see(version, id.partition("\0")[0], answer_of(row))

    def _see_builds(self, before: ViewBuilds, after: ViewBuilds) -> None:
        if after.live and after.live.number != (before.live and before.live.number):
            self.scheduler.tell("the view", "flips to build", after.live.number)
            if before.live:
                self.scheduler.count("a flip")
            table = self.table(ONE.name, after.live.number)
            self.reader.flip(after.live.shape.version, table, self._needed())
            self._check_parked(before.read_by(after.live.shape) or before.live, after.live)

    def _check_parked(self, before: ViewBuild | None, after: ViewBuild) -> None:
        """A build that is made live parks nothing that the one has which queries read before."""
        if before is None or after.number < before.number:
            return
        one, other = (build_name(ONE.name, build.number) for build in (before, after))
        for entries in self.parked_entries():
            for each in entries.parked:
                had, parks = each.builds.get(one, MAX_VERSION), each.builds.get(other, MAX_VERSION)
                if parks < had:
                    raise BrokenInvariant("a flip to what parks more", each)

    def _needed(self) -> dict[str, int]:
        """What a build must have that is made live: the version of each account.

        All that is processed; and what the build before it shows. But who has lost a partition may
        bring that one further than the next owner has come.
        """
        versions = {} if self.overlapped else dict(self.reader.seen)
        for partition in range(self.partitions):
            for record in self.records(partition)[: self.offset(partition)]:
                aggregate_id, version = self.placed[record.value]
                versions[aggregate_id] = max(version, versions.get(aggregate_id, 0))
        return versions

    def notify(self, view: View[Any], events: Sequence[Any]) -> None:
        """Who waits for an event is told only once the build has it that queries of a view read."""
        live = self.builds.read_by(view.shape)
        assert live is not None
        for event in events:
            if event.aggregate_id in self.code.poisoned:
                continue
            stored = self.table(ONE.name, live.number).get(event.aggregate_id + "\0")
            self.reader.explain(
                *(live.shape.version, event.aggregate_id, answer_of(stored), event.version),
                "told too early",
            )

    # The owners of partitions

    async def pause(self, chance: float) -> None:
        """Before a call: perhaps the caller is to stand still."""
        if self.pausing and self.scheduler.chance(chance):
            self.paused.append(self.scheduler.running)
            await checkpoint()

    def _writer(self, partition: int) -> MemoryTransactionalWriter:
        about = self.log, GROUP, TOPIC, partition, checkpoint
        if self.scenario.late:
            return self.scenario.parts.late_writer(*about, network=self.network)
        return MemoryTransactionalWriter(*about)

    async def own(self, owner: Owner, declared: str) -> None:
        """Own a partition, as a worker does."""
        writer: Any = Pausing(self._writer(owner.partition), self)
        reader = self._parks(
            MemoryReader(self.log, checkpoint if self.scenario.poison else no_yield)
        )
        parking = self.scenario.parts.parking(
            *(TOPICS, "project", owner.partition, self.shaky_letters, self.clock),
            TopicParkedLog(TOPICS, reader),
            tried=set() if self.retries else None,
        )
        role = self.scenario.parts.role(
            *(DOMAINS[declared], owner.partition, self.stores, writer, parking),
            self.clock,
            partitions=self.scenario.parts.partitions(self.partitions),
            cached=self.random.choice([0, 1, 100]),
            # Without the view its owner can't know who waits for it.
            notifier=NULL_NOTIFIER if declared == "neither" else Told(self, declared),
        )
        offset: int | None = None
        while True:
            try:
                owner.busy = True
                if offset is None:
                    offset = await role.open()
                    self.scheduler.note("has opened at", offset)
                if self.scheduler.chance(0.3):
                    await role.tick()
                offset = await self._take(role, owner, offset)
            except ServerUnavailable:
                offset = None
            except Fenced:
                self.scheduler.note("is fenced")
                return
            owner.busy = False
            await checkpoint()

    async def _take(self, role: ProjectRole, owner: Owner, offset: int) -> int | None:
        """Take a chunk, perhaps only after a while; return the next offset, None to open anew."""
        records = self.records(owner.partition)[offset:][: self.random.randint(1, 5)]
        if not records:
            return offset
        for _ in range(self.random.choice([0, 0, 0, 5, 20])):
            await checkpoint()
        offset = records[-1].offset + 1
        self.scheduler.note("takes up to", offset)
        await role.process(records, offset)
        self.scheduler.note("has committed", offset)
        return None if self.scheduler.chance(0.03) else offset

    # What is there, seen at once and without a step

    def records(self, partition: int) -> list[LogRecord]:
        return [e.record for e in self.log.entries(TOPIC, partition) if e.record]

    def offset(self, partition: int) -> int:
        return self.log.offsets.get((GROUP, TOPIC, partition), 0)

    def parked_entries(self) -> list[ParkedEntries]:
        """What the log has of parked aggregates and discards, by partition."""
        log = TopicParkedLog(TOPICS, MemoryReader(self.log))
        return [drive(log.load("project", each)) for each in range(self.partitions)]

    def discarded(self) -> set[tuple[str, int]]:
        """The discarded events: account and version."""
        return {
            (each.aggregate_id, each.version)
            for entries in self.parked_entries()
            for each in entries.discarded
        }
