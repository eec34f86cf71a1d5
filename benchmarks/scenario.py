"""A line of the benchmark: what is measured, by which sides, and what ours must reach."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contenders.task import Task


class Servers(NamedTuple):
    """Where the servers are."""

    kafka: str
    mongo_url: str
    redis_url: str


@dataclass(frozen=True)
class Goal:
    """What the ratio of ours to `against` must be, or, with an empty `against`, our own figure.

    `measure`: throughput (events a second), cpu (microseconds an event), or a name among the
    measures that both sides tell.
    """

    against: str
    measure: str = "throughput"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def limited(self) -> bool:
        """Whether it asks for anything, or only for the comparison to be shown."""
        return self.at_least is not None or self.at_most is not None

    def met(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        lower = None if self.at_least is None else f"at least {self.at_least:,g}"
        upper = None if self.at_most is None else f"at most {self.at_most:,g}"
        return ", ".join(filter(None, [lower, upper]))


Prepare = Callable[[Servers, str, int], Awaitable[Task]]
"""Makes the data of one run, given the side's label and the number of the repeat, from 0. Where
`more` has a `check`, the side must come to the same."""

Verify = Callable[[Servers, Task], Awaitable[None]]
"""Raises when what a run of ours stored is not right."""


@dataclass(frozen=True)
class Line:
    """`unit` is that of throughput, such as events/s; `sides` are modules by label, ours first."""

    name: str
    unit: str
    prepare: Prepare
    sides: Mapping[str, str]
    goals: Sequence[Goal]
    verify: Verify | None = None

    @property
    def ours(self) -> str:
        """The label of our side."""
        return next(iter(self.sides))


def short() -> bool:
    """Whether the short run is asked for, so that a line takes fewer records."""
    return os.environ.get("SHORT") == "1"
