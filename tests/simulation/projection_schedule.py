"""One schedule of the project role: owners, faults and rebuilds, then quiet, and the verdict."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from random import Random
from unittest.mock import patch

from eventfleet.roles import project, view_projector
from eventfleet.runtime.view_builds import begin_build
from eventfleet.stores.errors import ServerUnavailable
from tests.simulation.checker import BrokenInvariant
from tests.simulation.projection_checker import check_rows, check_totals
from tests.simulation.projection_feed import Feed
from tests.simulation.projection_world import (
    DOMAINS,
    GROUP,
    ONE,
    TOPIC,
    TWO,
    Owner,
    ProjectionScenario,
    ProjectionWorld,
    decoder_of,
)
from tests.simulation.scheduler import ScheduledTask
from tests.simulation.shrinker import tell_shrunk
from tests.simulation.story import tell

BUSY = 500
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

    def run(self) -> None:
        """Violation when a promise is broken; it tells the steps."""
        parts = {
            "ViewProjector": self.scenario.parts.projector,
            "make_typed_decoder": decoder_of,
            "CATCH_UP_PAGE_EVENTS": 2,
            "CATCH_UP_PAGES": 2,
        }
        first_times = self.scenario.parts.first_times
        with (
            patch.multiple(project, **parts),
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
            number = await begin_build(DOMAINS[declared], self.world.stores, ONE.name)
            self.scheduler.note("begins build", number)
        except ServerUnavailable:
            return

    # What happens

    def _begin(self) -> None:
        """Mostly the view is there already, in one version or the other."""
        declared = self.random.choice(self.scenario.fleet)
        if declared != "neither" and self.scheduler.chance(0.8):
            self.world.build(*DOMAINS[declared].views)

    def _busy(self) -> None:
        world = self.world
        feeding = Feed(world).run(self.random.randint(3, self.scenario.events))
        self.feeder = self.scheduler.start("append", feeding)
        for partition in range(world.partitions):
            self._own(partition)
        for _ in range(self.random.randint(BUSY // 5, BUSY)):
            self._disturb()
            self._step()

    def _step(self) -> None:
        self.scheduler.step()
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
        self.world.faults.rate, self.world.pausing = 0.0, False
        for partition in range(self.world.partitions):
            self._own(partition, "two")
        for step in range(PATIENCE):
            if step % 10 == 0 and self._settled():
                return
            self._step()
        raise BrokenInvariant("stuck", f"not done after {PATIENCE} quiet steps")

    def _settled(self) -> bool:
        """All is processed, a build of the newest version answers, and nobody has anything left."""
        for partition, task in self.newest.items():
            if task not in self.scheduler.tasks:  # one that began earlier has fenced it
                self._own(partition, "two")
                return False
        if self.feeder in self.scheduler.tasks or not self._answers():
            return False
        for task in self.owners:
            if not task.slot.busy and task not in self.newest.values():  # type: ignore[attr-defined]
                self.scheduler.kill(task)
        busy = any(task.slot.busy for task in self.owners)  # type: ignore[attr-defined]
        return not busy and len(self.scheduler.tasks) == len(self.newest)

    def _answers(self) -> bool:
        world, partitions = self.world, range(self.world.partitions)
        live, following = world.builds
        return (
            live is not None
            and live.shape == TWO.shape
            and (following is None or following.shape != TWO.shape)
            and all(live.progress(each).ready for each in partitions)
            and all(world.offset(each) == len(world.records(each)) for each in partitions)
        )

    # The verdict

    def _verdict(self) -> None:
        world = self.world
        live = world.builds.live
        assert live is not None
        happened = world.histories.happened
        check_rows(TWO, world.table(ONE.name, live.number), happened)
        tables = {totals.name: world.table(totals.name, live.number) for totals in TWO.totals}
        check_totals(TWO, tables, happened)


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
