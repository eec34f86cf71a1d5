"""Runs the sides of a line by turns, and makes medians, ratios and rows of what they tell."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.contenders.task import Result, Task
from benchmarks.scenario import Goal, Line, Servers
from eventfleet.topics.errors import EventfleetError

LIMIT = 300.0
UNITS = {"cpu": "CPU us/event", "p50": "s (p50)", "p99": "s (p99)"}


class SideFailed(Exception):
    """A side ended badly, was too slow, or told what can't be; with what it wrote."""


class Row(msgspec.Struct, frozen=True):
    """One comparison: `median` and `spread` are ours, `ratio` is ours to `against`.

    `spread` is (largest - smallest) / median of the repeats. Without `against`, the goal is for
    the median.
    """

    name: str
    unit: str
    median: float
    spread: float
    against: str | None
    ratio: float | None
    goal: str | None
    met: bool | None


@dataclass(frozen=True)
class Runs:
    """The results of each side of a line, by label; as many repeats of each."""

    line: Line
    results: Mapping[str, Sequence[Result]]

    def values(self, side: str, measure: str) -> list[float]:
        return [value(result, measure) for result in self.results[side]]

    def ratio(self, against: str, measure: str) -> float:
        """The median of the repeats' ratios, ours to theirs."""
        pairs = zip(
            self.values(self.line.ours, measure), self.values(against, measure), strict=True
        )
        return median(ours / theirs if theirs else float("inf") for ours, theirs in pairs)

    def rows(self) -> list[Row]:
        """Throughput and CPU against each other side, then what else there are goals for."""
        others = [side for side in self.line.sides if side != self.line.ours]
        standard = [(side, measure) for side in others for measure in ("throughput", "cpu")]
        goals = {(goal.against, goal.measure): goal for goal in self.line.goals}
        return [self._row(*pair, goals.get(pair)) for pair in dict.fromkeys([*standard, *goals])]

    def _row(self, against: str, measure: str, goal: Goal | None) -> Row:
        ours = self.values(self.line.ours, measure)
        ratio = self.ratio(against, measure) if against else None
        reached = median(ours) if ratio is None else ratio
        return Row(
            self.line.name,
            unit(self.line, measure),
            median(ours),
            spread(ours),
            against or None,
            ratio,
            str(goal) if goal and goal.limited else None,
            goal.met(reached) if goal and goal.limited else None,
        )


def unit(line: Line, measure: str) -> str:
    if measure == "throughput":
        return line.unit
    return UNITS.get(measure, measure.replace("_", " "))


def value(result: Result, measure: str) -> float:
    """Throughput in events a second, CPU in microseconds an event, else a figure by its name."""
    if measure == "throughput":
        return result.events / result.seconds
    if measure == "cpu":
        return result.cpu * 1e6 / result.events
    return result.measures[measure]


def spread(values: Sequence[float]) -> float:
    """How far the values lie apart, as a part of their median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def turns(sides: Sequence[str], repeat: int) -> list[str]:
    """The order of one repeat: each begins with another side."""
    first = repeat % len(sides)
    return [*sides[first:], *sides[:first]]


Tell = Callable[[str, int, Result], None]
"""Told of each run when it ends: the side, the repeat, the result."""


async def measure(line: Line, servers: Servers, repeats: int, tell: Tell) -> Runs:
    """All sides of a line, `repeats` times each. SideFailed ends it."""
    results: dict[str, list[Result]] = {side: [] for side in line.sides}
    for repeat in range(repeats):
        for side in turns(list(line.sides), repeat):
            task = await _prepared(line, servers, side, repeat)
            result = await run(side, line.sides[side], task)
            if side == line.ours:
                await _verify(line, servers, task)
            results[side].append(result)
            tell(side, repeat, result)
    return Runs(line, results)


async def _prepared(line: Line, servers: Servers, side: str, repeat: int) -> Task:
    try:
        return await line.prepare(servers, side, repeat)
    except EventfleetError as error:
        raise SideFailed(f"the data for {side} can't be made: {error}") from error


async def _verify(line: Line, servers: Servers, task: Task) -> None:
    if line.verify is not None:
        try:
            await line.verify(servers, task)
        except Exception as error:
            raise SideFailed(f"what {line.ours} stored is not right: {error!r}") from error


async def run(side: str, module: str, task: Task) -> Result:
    """One run, in a process of its own."""
    return await ask(side, [sys.executable, "-m", f"benchmarks.contenders.{module}"], task)


async def ask(side: str, command: Sequence[str], task: Task, limit: float = LIMIT) -> Result:
    """What a program says of a task, within `limit` seconds. SideFailed carries its stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        msgspec.json.encode(task).decode(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), limit)
    except TimeoutError:
        raise SideFailed(f"{side} has not ended within {limit:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = err.decode(errors="replace")
        raise SideFailed(f"{side} ended with status {process.returncode}:\n{said}")
    return _checked(side, task, out, err)


def _checked(side: str, task: Task, out: bytes, err: bytes) -> Result:
    try:
        result = Result.parse(out)
    except msgspec.MsgspecError as error:
        said = (out + err).decode(errors="replace")
        raise SideFailed(f"{side} told no result ({error}):\n{said}") from None
    expected = task.more.get("check", result.check)
    if result.events != task.records or result.check != expected:
        read = f"{result.events} records with {result.check} bytes"
        raise SideFailed(f"{side} read {read}; it had to be {task.records} with {expected}")
    return result
