"""A benchmark scenario: what is measured, its contenders, and the goals for ours."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contenders.task import ContenderTask


class ServerAddresses(NamedTuple):
    """The addresses of the servers."""

    kafka: str
    mongo_url: str
    redis_url: str


NO_SERVERS = ServerAddresses("", "", "")
"""For scenarios that need none."""


@dataclass(frozen=True)
class Goal:
    """A goal for the ratio of ours to `against`, or, with an empty `against`, for our own figure.

    `measure`: throughput (events a second), cpu (microseconds an event), or one of the measures
    that both contenders report. Without a limit, the comparison is only shown.
    """

    against: str
    measure: str = "throughput"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def has_limit(self) -> bool:
        return self.at_least is not None or self.at_most is not None

    def is_met(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        lower = None if self.at_least is None else f"at least {self.at_least:,g}"
        upper = None if self.at_most is None else f"at most {self.at_most:,g}"
        return ", ".join(filter(None, [lower, upper]))


Prepare = Callable[[ServerAddresses, str, int], Awaitable[ContenderTask]]
"""Makes the data of one run, given the contender's label and the number of the repeat, from 0.
Where `extra` has `value_bytes`, the contender must have read as many."""

Verify = Callable[[ServerAddresses, ContenderTask], Awaitable[None]]
"""Raises when the data that our contender stored is wrong."""


@dataclass(frozen=True)
class Scenario:
    """A scenario; `unit` is that of throughput, such as events/s, and `contenders` are modules by
    label, ours first."""

    name: str
    unit: str
    prepare: Prepare
    contenders: Mapping[str, str]
    goals: Sequence[Goal]
    verify: Verify | None = None
    needs_servers: bool = True

    @property
    def ours(self) -> str:
        """The label of our contender."""
        return next(iter(self.contenders))


def is_short() -> bool:
    """Return True for a short run (SHORT=1), in which scenarios take fewer records."""
    return os.environ.get("SHORT") == "1"
