"""How a cluster scales by lag: KEDA's Kafka trigger, and the autoscaler that Kubernetes runs on it.

`reported_lag` is what the trigger reports of a group, `HorizontalAutoscaler` what becomes of it.
Pure: times are arguments, in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

TOLERANCE = 0.1
"""The autoscaler changes nothing while the lag is this close to what the replicas stand for."""


def reported_lag(lags: Sequence[int], threshold: int) -> int:
    """Return the sum of a topic's lags; no more than asks for one replica for each partition."""
    total = sum(lags)
    return threshold * len(lags) if total // threshold > len(lags) else total


def desired_replicas(lag: int, threshold: int, replicas: int) -> int:
    """Return the replicas of which each has a lag of `threshold` on average."""
    if abs(lag / (threshold * replicas) - 1) <= TOLERANCE:
        return replicas
    return ceil(lag / threshold)


@dataclass(frozen=True)
class ScalingRule:
    """What one direction allows: at most `replicas` in `period`; a target must last for `window`.

    Scaling down goes by the highest target within the window, scaling up by the lowest.
    """

    replicas: int
    period: float
    window: float


class Change(NamedTuple):
    """A change of the replicas that was made."""

    time: float
    replicas: int


@dataclass
class HorizontalAutoscaler:
    """Turns target after target into the replicas to run."""

    least: int
    most: int
    up: ScalingRule
    down: ScalingRule
    targets: list[Change] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def decide(self, now: float, replicas: int, target: int) -> int:
        """Return how many replicas to run, when so many run and these are desired."""
        self.targets = self._recent(self.targets, now, max(self.up.window, self.down.window))
        self.targets.append(Change(now, target))
        wanted = min(max(self._stabilize(now, replicas), self.least), self.most)
        decided = self._limit(now, replicas, wanted)
        if decided != replicas:
            self.changes.append(Change(now, decided - replicas))
        return decided

    def _stabilize(self, now: float, replicas: int) -> int:
        lowest = min(each for _, each in self._recent(self.targets, now, self.up.window))
        highest = max(each for _, each in self._recent(self.targets, now, self.down.window))
        return min(max(replicas, lowest), highest)

    def _limit(self, now: float, replicas: int, wanted: int) -> int:
        """Keep to the number of replicas that may be added or removed in a period."""
        if wanted > replicas:
            most = self._at_start(now, replicas, self.up) + self.up.replicas
            return max(replicas, min(wanted, most))
        least = self._at_start(now, replicas, self.down) - self.down.replicas
        return min(replicas, max(wanted, least))

    def _at_start(self, now: float, replicas: int, rule: ScalingRule) -> int:
        """The replicas at the start of the rule's period."""
        return replicas - sum(each for _, each in self._recent(self.changes, now, rule.period))

    @staticmethod
    def _recent(changes: Sequence[Change], now: float, seconds: float) -> list[Change]:
        """Return the entries that are not older than `seconds`."""
        return [each for each in changes if now - each.time <= seconds]
