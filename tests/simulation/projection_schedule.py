"""One schedule of the project role: owners, faults and rebuilds, then quiet, and the verdict."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

from eventfleet.model.views import View
from eventfleet.roles import event_applier, kept_builds, projected_reader, view_projector
from eventfleet.runtime.view_builds import begin_build
from eventfleet.stores.contracts.dead_letters import Discard, ParkedQuery
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.parked import ParkedAggregate
from tests.simulation.checker import BrokenInvariant
from tests.simulation.projection_checker import check_rows, check_totals
from tests.simulation.projection_feed import Feed
from tests.simulation.projection_world import (
    DOMAINS,
    GROUP,
    TOPIC,
    Owner,
    ProjectionScenario,
    ProjectionWorld,
    decoder_of,
)
from tests.simulation.scheduler import ScheduledTask, checkpoint, drive
from tests.simulation.shrinker import tell_shrunk
from tests.simulation.story import tell

PATIENCE = 8_000
STEP = 100
DAY = 2 * 24 * 3_600_000
"""Milliseconds, and longer than tombstones are kept."""


class ProjectionSchedule:
    def __init__(self, scenario: ProjectionScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = ProjectionWorld(scenario, seed)
        self.scheduler, self.random = self.world.scheduler, self.world.random
        self.names = count(1)
        self.newest: dict[int, ScheduledTask] = {}
        self.tried: set[tuple[str, int]] = set()  # what was asked for since the last deployment

    def run(self) -> None:
        """Violation when a promise is broken; it tells the steps."""
        pages = {"CATCH_UP_PAGE_EVENTS": 2, "CATCH_UP_PAGES": 2}
        first_times = self.scenario.parts.first_times
        with (
            patch.object(kept_builds, "ViewProjector", self.scenario.parts.projector),
            patch.object(projected_reader, "make_typed_decoder", decoder_of),
            patch.multiple(event_applier, **pages),
            patch.object(view_projector, "first_times", first_times),
        ):
            try:
                self._begin()
                self._busy()
                self._settle()
                self._verdict()
            except BrokenInvariant as violation:
                violation.args = (f"{violation}\n{self._story()}",)
                raise
            except Exception as error:
                raise BrokenInvariant("error", f"{error!r}\n{self._story()}") from error
            finally:
                self.scheduler.end()

    def _story(self) -> str:
        return tell(self.scheduler.trace)

    # Who takes part

    def _own(self, partition: int, declared: str = "") -> None:
        declared = declared or self.random.choice(self.scenario.fleet)
        others = [task.slot.partition for task in self.owners]  # type: ignore[attr-defined]
        self.world.overlapped |= partition in others
        owner = Owner(partition)
        name = f"{declared} {next(self.names)} of {partition}"
        task = self.scheduler.start(name, self.world.own(owner, declared), owner)
        self.newest[partition] = task

    @property
    def owners(self) -> list[ScheduledTask]:
        return [task for task in self.scheduler.tasks if isinstance(task.slot, Owner)]

    async def _rebuild(self, declared: str) -> None:
        try:
            view = self.random.choice(self.scenario.views).name
            number = await begin_build(DOMAINS[declared], self.world.stores, view)
            self.scheduler.note("begins build", number)
        except ServerUnavailable:
            return

    async def _operate(self, steps: int) -> None:
        """Ask for redrives and discards."""
        world = self.world
        discards = self.random.choice([0.0, 0.0 if self.scenario.rolls_back else 0.3])
        for _ in range(steps):
            for _ in range(self.random.randint(1, 20)):
                await checkpoint()
            try:
                if parked := await world.shaky_letters.find(ParkedQuery(), 100):
                    each = self.random.choice(parked)
                    await self._request(world.shaky_letters, each, self.scheduler.chance(discards))
            except ServerUnavailable:
                continue

    def _deploy(self, mended: bool) -> None:
        """Deploy code that raises on nothing, or go back to the code before."""
        self.scheduler.tell("the team", "mends its code" if mended else "goes back")
        self.world.code.mended = mended

    async def _request(self, letters: Any, parked: ParkedAggregate, discards: bool) -> None:
        """Ask for a redrive, or for a discard."""
        if discards:
            self.world.discards.add((parked.aggregate_id, parked.first))
        self.scheduler.count("a discard" if discards else "a redrive")
        discard = Discard("it is a mistake", "op", self.world.clock.now()) if discards else None
        self.scheduler.tell("an operator", "asks for", (parked, discard))
        await letters.request(parked, discard)

    # What happens

    def _begin(self) -> None:
        """Mostly the view is there already, in one version or the other."""
        declared = self.random.choice(self.scenario.fleet)
        if self.scenario.rolls_back:
            declared = self.scenario.newest
        if declared != "neither" and (self.scenario.rolls_back or self.scheduler.chance(0.8)):
            for view in DOMAINS[declared].views:
                self.world.build(view)

    def _busy(self) -> None:
        world = self.world
        feeding = Feed(world).run(self.random.randint(3, self.scenario.events))
        self.feeder = self.scheduler.start("append", feeding)
        if self.scenario.poison:
            steps = self.random.randint(0, 30)
            self.operator = self.scheduler.start("operator of the parked", self._operate(steps))
        for partition in range(world.partitions):
            self._own(partition)
        busy = self.scenario.busy
        for _ in range(self.random.randint(busy // 5, busy)):
            self._disturb()
            self._step()

    def _step(self) -> None:
        self.scheduler.step()
        if self.scenario.late:
            self.world.network.go_on()
        self.world.clock.advance(STEP)

    def _disturb(self) -> None:
        scenario, chance = self.scenario, self.scheduler.chance
        if chance(scenario.owners):
            self.scheduler.count("several owners")
            self._own(self._any_partition())
        if chance(scenario.kills) and self.owners:
            self._kill(self.random.choice(self.owners))
        while self.world.paused:
            self._pause(self.world.paused.pop())
        if chance(scenario.rebuilds):
            self.scheduler.count("a rebuild")
            declared = self.random.choice([each for each in scenario.fleet if each != "neither"])
            self.scheduler.start(f"operator {next(self.names)}", self._rebuild(declared))
        if chance(scenario.rewinds):
            self._rewind(self._any_partition())
        if chance(scenario.deployments):
            self._deploy(not self.world.code.mended)
        if chance(scenario.days):
            self._pass_a_day()

    def _any_partition(self) -> int:
        return int(self.random.randrange(self.world.partitions))

    def _kill(self, task: ScheduledTask) -> None:
        """One is killed; who was the newest owner of its partition is followed by another."""
        self.scheduler.count("an owner is killed")
        self.scheduler.kill(task)
        if task in self.newest.values():
            self._own(task.slot.partition)  # type: ignore[attr-defined]

    def _pause(self, name: str) -> None:
        for task in [task for task in self.owners if task.name == name]:
            self.scheduler.stall(task, self.random.randint(20, 200))
            self.scheduler.count("an owner stands still")
            if self.scheduler.chance(0.5):
                self._own(task.slot.partition)  # type: ignore[attr-defined]

    def _rewind(self, partition: int) -> None:
        """The group's offset is set back while the partition's newest owner is stopped."""
        if self.newest[partition] in self.scheduler.tasks:
            self.scheduler.kill(self.newest[partition])
        offset = self.random.randint(0, self.world.offset(partition))
        self.scheduler.count("the offset is set back")
        self.scheduler.tell("an operator", "sets the offset back to", offset)
        if (GROUP, TOPIC, partition) in self.world.log.offsets:
            self.world.log.offsets[GROUP, TOPIC, partition] = offset
        self._own(partition)

    def _pass_a_day(self) -> None:
        """Tombstones grow old; who has anything in hand from before is no more."""
        for task in self.owners:
            if task.slot.busy or task not in self.newest.values():  # type: ignore[attr-defined]
                self.scheduler.kill(task)
        self.scheduler.count("a day passes")
        self.scheduler.tell("time", "goes on by two days")
        self.world.clock.advance(DAY)
        for partition, task in list(self.newest.items()):
            if task not in self.scheduler.tasks:
                self._own(partition)

    def _settle(self) -> None:
        """Owners of the newest version end it."""
        self.scheduler.tell("the schedule", "goes quiet")
        self.world.faults.rate = self.world.network.rate = 0.0
        self.world.pausing = False
        for partition in range(self.world.partitions):
            self._own(partition, self.scenario.newest)
        self._await(self._settled)
        if self.scenario.rolls_back:
            self._await(lambda: self._settled() and not self._parks())
        elif self.scenario.poison:
            self._check_others()
            self._deploy(self.world.mends)
            self._await(self._redriven)

    def _await(self, done: Callable[[], bool]) -> None:
        for step in range(PATIENCE):
            if step % 10 == 0 and done():
                return
            self._step()
        raise BrokenInvariant("stuck", f"not done after {PATIENCE} quiet steps")

    def _check_others(self) -> None:
        """Accounts without a poison event are up to date, whatever else is parked."""
        world = self.world
        poisoned = world.code.poisoned
        for view in self.scenario.views:
            build = self._answering(view)
            assert build is not None
            table = world.table(view.name, build.number, view)
            check_rows(view, table, world.histories.happened, poisoned)

    def _redriven(self) -> bool:
        """Nothing is parked any more; until then whatever is, is redriven or discarded."""
        world, settled = self.world, self._settled()
        if self.operator in self.scheduler.tasks or world.log.open_transactions():
            return False
        asked = {each.aggregate_id for each in drive(world.letters.requests("project", 0, 100))}
        listed = drive(world.letters.find(ParkedQuery(), 100))
        for each in listed:
            if each.aggregate_id not in asked:
                # Without an event that was discarded, those behind it may never be possible.
                tried = each.aggregate_id, each.first
                drive(self._request(world.letters, each, not world.mends or tried in self.tried))
                self.tried.add(tried)
        is_live = all(self._is_live(view) for view in self.scenario.views)
        return settled and is_live and not listed and not self._parks()

    def _parks(self) -> bool:
        return any(entries.parked for entries in self.world.parked_entries())

    def _settled(self) -> bool:
        """All is processed, a build of the newest version answers, and nobody has anything left."""
        for partition, task in self.newest.items():
            if task not in self.scheduler.tasks:  # one that began earlier has fenced it
                self._own(partition, self.scenario.newest)
                return False
        if self.feeder in self.scheduler.tasks or not self._answers():
            return False
        if self.scenario.late and not self.world.network.is_idle:
            return False
        for task in self.owners:
            if not task.slot.busy and task not in self.newest.values():  # type: ignore[attr-defined]
                self.scheduler.kill(task)
        busy = any(task.slot.busy for task in self.owners)  # type: ignore[attr-defined]
        return not busy and len(self.scheduler.tasks) == len(self.newest)

    def _answers(self) -> bool:
        world, partitions = self.world, range(self.world.partitions)
        return all(map(self._answers_of, self.scenario.views)) and all(
            world.offset(each) == len(world.records(each)) for each in partitions
        )

    def _answers_of(self, view: View[Any]) -> bool:
        build = self._answering(view)
        return build is not None and all(
            self._is_ready(build.progress(each), each) for each in range(self.world.partitions)
        )

    def _is_ready(self, progress: BuildProgress, partition: int) -> bool:
        """Return whether a build has come to the end, which one that is held does not note."""
        if not progress.held:
            return progress.ready
        point = progress.point or FeedPoint.start(partition)
        behind = drive(self.world.events.placed(point, 1_000))
        return all(event.aggregate_id in self.world.code.poisoned for event in behind)

    def _answering(self, view: View[Any]) -> ViewBuild | None:
        """The build of a view that is the live one, or held while it would follow it."""
        live, following, _ = self.world.builds_of(view)
        if following is None or following.shape != view.shape:
            return live if live and live.shape == view.shape and not live.stale else None
        return following if following.held and not following.stale else None

    def _is_live(self, view: View[Any]) -> bool:
        build = self._answering(view)
        return build is not None and build is self.world.builds_of(view).live

    # The verdict

    def _verdict(self) -> None:
        world = self.world
        discarded = world.discarded() if self.scenario.poison else set()
        if unasked := discarded - world.discards:
            raise BrokenInvariant("discarded unasked", unasked)
        happened = [
            event
            for event in world.histories.happened
            if (event.aggregate_id, event.version) not in discarded
        ]
        for view in self.scenario.views:
            live = world.builds_of(view).live
            assert live is not None
            check_rows(view, world.table(view.name, live.number, view), happened)
            tables = {each.name: world.table(each.name, live.number, view) for each in view.totals}
            check_totals(view, tables, happened)


def run(scenario: ProjectionScenario, seeds: range) -> Counter[str]:
    """Returns in how many schedules each kind of fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = ProjectionSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            story = tell_shrunk(ProjectionSchedule, scenario, seed)
            raise AssertionError(f"seed {seed}: {story}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def violations(scenario: ProjectionScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            ProjectionSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
