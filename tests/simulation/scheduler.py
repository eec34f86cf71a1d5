"""A seeded scheduler: one step of one plain coroutine at a time; a seed decides the order."""

from collections import Counter
from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass
from random import Random
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def checkpoint(label: str = "") -> Generator[None, None, None]:
    """Where other tasks may go on, and where this one may be killed."""
    yield


def drive(awaited: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in one go, unseen by the scheduler."""
    while True:
        try:
            awaited.send(None)
        except StopIteration as done:
            result: T = done.value
            return result


@dataclass(eq=False)
class ScheduledTask:
    name: str
    coroutine: Coroutine[Any, Any, None]
    slot: object = None
    wakes_at: int = 0


class Draws(Random):
    """A generator that may be told who draws, and does not mind."""

    stream = ""

    def turn(self, ready: Sequence[ScheduledTask]) -> ScheduledTask:
        """Choose who goes on."""
        return self.choice(ready)


class Scheduler:
    """`trace` tells what happened, in order: what the tasks noted, and who was killed; `counts`,
    how many times each kind of fault befell somebody."""

    def __init__(self, seed: int | Random) -> None:
        self.random: Any = seed if isinstance(seed, Random) else Draws(seed)
        self.tasks: list[ScheduledTask] = []
        self.trace: list[tuple[str, str, object]] = []
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.running = ""

    def start(
        self, name: str, work: Coroutine[Any, Any, None], slot: object = None
    ) -> ScheduledTask:
        task = ScheduledTask(name, work, slot)
        self.tasks.append(task)
        return task

    def kill(self, task: ScheduledTask) -> None:
        """As a kill -9 does: what the task has in memory is gone, what it has done stays."""
        self.trace.append((task.name, "killed", ""))
        self.tasks.remove(task)
        task.coroutine.close()

    def kill_others(self, slot: object) -> None:
        """Kill all tasks of a slot but the running one."""
        for task in [t for t in self.tasks if t.slot == slot and t.name != self.running]:
            self.kill(task)

    def stall(self, task: ScheduledTask, steps: int) -> None:
        """As a long pause of its process does: the others go on meanwhile."""
        self.trace.append((task.name, "stalls for steps:", steps))
        task.wakes_at = self.steps + steps

    def step(self) -> None:
        """Let one task go on to its next checkpoint."""
        self.steps += 1
        ready = [task for task in self.tasks if task.wakes_at <= self.steps]
        if not ready:
            return
        task = self.random.turn(ready)
        self.running = self.random.stream = task.name
        try:
            task.coroutine.send(None)
        except StopIteration:
            self.tasks.remove(task)
        self.random.stream = ""

    def note(self, what: str, about: object = "") -> None:
        self.trace.append((self.running, what, about))

    def tell(self, who: str, what: str, about: object = "") -> None:
        self.trace.append((who, what, about))

    def count(self, kind: str) -> None:
        """Count a fault that has befallen somebody."""
        self.counts[kind] += 1
        self.note("befallen by:", kind)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def end(self) -> None:
        for task in self.tasks:
            task.coroutine.close()
        self.tasks.clear()
