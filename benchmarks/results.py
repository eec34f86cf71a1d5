"""Medians, ratios and goals from the results of a scenario's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.contenders.task import Result
from benchmarks.scenario import Goal, Scenario

UNITS = {"cpu": "CPU us/event", "p50": "s (p50)", "p99": "s (p99)"}


class Comparison(msgspec.Struct, frozen=True):
    """Compares one measure of ours with a peer's: `median` and `spread` are ours, `ratio` is ours
    divided by that of `against`.

    `spread` is (largest - smallest) / median over the repeats. Without `against`, the goal applies
    to the median.
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
class ScenarioResults:
    """Holds the results of each contender of a scenario, by label; the same number for each."""

    scenario: Scenario
    results: Mapping[str, Sequence[Result]]

    def values(self, contender: str, measure: str) -> list[float]:
        return [measure_value(result, measure) for result in self.results[contender]]

    def ratio(self, against: str, measure: str) -> float:
        """Return the median of the repeats' ratios, ours to theirs."""
        pairs = zip(
            self.values(self.scenario.ours, measure), self.values(against, measure), strict=True
        )
        return median(ours / theirs if theirs else float("inf") for ours, theirs in pairs)

    def comparisons(self) -> list[Comparison]:
        """Compare throughput and CPU with each peer, then every further measure that has a goal."""
        scenario = self.scenario
        peers = [contender for contender in scenario.contenders if contender != scenario.ours]
        standard = [(peer, measure) for peer in peers for measure in ("throughput", "cpu")]
        goals = {(goal.against, goal.measure): goal for goal in scenario.goals}
        pairs = dict.fromkeys([*standard, *goals])
        return [self._compare(*pair, goals.get(pair)) for pair in pairs]

    def _compare(self, against: str, measure: str, goal: Goal | None) -> Comparison:
        ours = self.values(self.scenario.ours, measure)
        ratio = self.ratio(against, measure) if against else None
        reached = median(ours) if ratio is None else ratio
        return Comparison(
            self.scenario.name,
            measure_unit(self.scenario, measure),
            median(ours),
            spread(ours),
            against or None,
            ratio,
            str(goal) if goal and goal.has_limit else None,
            goal.is_met(reached) if goal and goal.has_limit else None,
        )


def measure_unit(scenario: Scenario, measure: str) -> str:
    if measure == "throughput":
        return scenario.unit
    return UNITS.get(measure, measure.replace("_", " "))


def measure_value(result: Result, measure: str) -> float:
    """Return throughput in events a second, CPU in microseconds an event, or a named measure."""
    if measure == "throughput":
        return result.events / result.seconds
    if measure == "cpu":
        return result.cpu * 1e6 / result.events
    return result.measures[measure]


def spread(values: Sequence[float]) -> float:
    """Return the width of the values' range as a part of their median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
