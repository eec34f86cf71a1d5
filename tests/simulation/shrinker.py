"""Shrinks a failing schedule: leaves choices out while the same invariant breaks.

All that happens in a schedule follows from the draws of its random generator. A shorter list of
draws is another schedule; a draw that is left out is the quiet one: no fault, the smallest number,
the next task in turn. Each of those who take part has a stream of draws of its own, so that what is
left out of one changes none of the others.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from tests.simulation.checker import BrokenInvariant
from tests.simulation.scheduler import ScheduledTask, Scheduler
from tests.simulation.story import told

N = TypeVar("N", float, int)

SEEDS_OF_SMALLER = 200
MAX_RUNS = 400
QUIET = 0.999999
TURNS = "turns"


class Schedule(Protocol):
    """A schedule that can be run once."""

    scheduler: Scheduler

    def run(self) -> None:
        """Run it. BrokenInvariant."""


MakeSchedule = Callable[[Random], Schedule]


class Draw(NamedTuple):
    """A draw of one of those who take part: what random() or getrandbits() gave, or, in the stream
    TURNS, the name of the task that went on. None: the quiet draw."""

    stream: str
    drawn: float | int | str | None


class RecordedDraws(Random):
    """A generator that remembers what it gave, and to whom."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.draws: list[Draw] = []
        self.stream = ""
        self._silent = False

    def random(self) -> float:
        return self._record(super().random())

    def getrandbits(self, k: int, /) -> int:
        return self._record(super().getrandbits(k))

    def turn(self, ready: Sequence[ScheduledTask]) -> ScheduledTask:
        """Choose who goes on."""
        self._silent = True
        task = self.choice(ready)
        self._silent = False
        self.draws.append(Draw(TURNS, task.name))
        return task

    def _record(self, drawn: N) -> N:
        if not self._silent:
            self.draws.append(Draw(self.stream, drawn))
        return drawn


class ReplayedDraws(Random):
    """A generator that gives each stream what it is told to, and after that quiet draws."""

    def __init__(self, draws: Sequence[Draw]) -> None:
        super().__init__(0)
        self.stream = ""
        self._streams: defaultdict[str, deque[float | int | str | None]] = defaultdict(deque)
        self._turns = count()
        for stream, drawn in draws:
            self._streams[stream].append(drawn)

    def random(self) -> float:
        drawn = self._next(self.stream)
        return drawn if isinstance(drawn, float) else QUIET

    def getrandbits(self, k: int, /) -> int:
        drawn = self._next(self.stream)
        return drawn & ((1 << k) - 1) if isinstance(drawn, int) else 0

    def turn(self, ready: Sequence[ScheduledTask]) -> ScheduledTask:
        """Choose the next one of those told that can go on; without any, all by turns."""
        by_name = {task.name: task for task in ready}
        while name := self._next(TURNS):
            if name in by_name:
                return by_name[str(name)]
        return ready[next(self._turns) % len(ready)]

    def _next(self, stream: str) -> float | int | str | None:
        left = self._streams[stream]
        return left.popleft() if left else None


class ShrunkSchedule(NamedTuple):
    """The shortest failing schedule that was found; its violation tells the story."""

    violation: BrokenInvariant
    steps: int
    steps_before: int


class Shrinker:
    """Shrinks the schedules that one maker makes."""

    def __init__(self, make: MakeSchedule, max_runs: int = MAX_RUNS) -> None:
        self._make, self._max_runs = make, max_runs
        self._runs = 0

    def shrink(self, seed: int) -> ShrunkSchedule:
        """Shrink the schedule of a seed, which fails. ValueError: it does not fail."""
        recorded = RecordedDraws(seed)
        violation, steps = self._run(recorded)
        if violation is None:
            raise ValueError(f"the schedule of seed {seed} breaks nothing")
        before, draws = steps, recorded.draws
        self._kind, self._best = violation.kind, (steps, violation)
        size = len(draws) // 2
        while size and self._runs < self._max_runs:
            draws = self._without_chunks(draws, size)
            size //= 2
        return ShrunkSchedule(self._best[1], self._best[0], before)

    def _without_chunks(self, draws: list[Draw], size: int) -> list[Draw]:
        """Leave out each chunk of some size, from the end on, or make it quiet."""
        start = len(draws) - size
        while start > -size and self._runs < self._max_runs:
            first, end = max(0, start), start + size
            quiet = [Draw(stream, None) for stream, _ in draws[first:end] if stream != TURNS]
            for shorter in (draws[:first] + draws[end:], draws[:first] + quiet + draws[end:]):
                if shorter != draws and self._fails_alike(shorter):
                    draws = shorter
                    break
            start -= size
        return draws

    def _fails_alike(self, draws: Sequence[Draw]) -> bool:
        violation, steps = self._run(ReplayedDraws(draws))
        if violation is None or violation.kind != self._kind:
            return False
        if steps < self._best[0]:
            self._best = (steps, violation)
        return steps <= self._best[0]

    def _run(self, random: Random) -> tuple[BrokenInvariant | None, int]:
        self._runs += 1
        schedule = self._make(random)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            return violation, len(told(schedule.scheduler.trace))
        return None, 0


def tell_shrunk(make: Callable[[Any, Any], Schedule], scenario: Any, seed: int) -> str:
    """The story of a scenario's failing seed, as short as it gets.

    `make` makes a schedule of a scenario, with a seed or a generator.
    """
    kind, before = _outcome(make(scenario, seed))
    shortest = before, scenario, seed
    for smaller in scenario.smaller():
        for each in range(SEEDS_OF_SMALLER):
            found, length = _outcome(make(smaller, each))
            if found and found == kind and length < shortest[0]:
                shortest = length, smaller, each
    _, scenario, seed = shortest
    shrunk = Shrinker(partial(make, scenario)).shrink(seed)
    return f"{shrunk.violation}\nThe story had {before} steps before it was shrunk."


def _outcome(schedule: Schedule) -> tuple[str, int]:
    """The kind of its violation, or the empty string; and how long its story is."""
    try:
        schedule.run()
    except BrokenInvariant as violation:
        return violation.kind, len(told(schedule.scheduler.trace))
    return "", 0
