"""Histogram: how values are distributed over buckets, for Prometheus to read."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence


class Histogram:
    """Counts of values by bucket, and their sum.

    `bounds` are the buckets' upper bounds, ascending; the last one is infinite.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * len(bounds)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.sum += value
        self.counts[bisect_left(self.bounds, value)] += 1

    def observe_ages(self, timestamps: Iterable[int], now: int) -> None:
        """Count the ages in seconds of many records at once.

        `timestamps` and `now` are milliseconds. One search for each bucket counts all of them; a
        timestamp in the future counts as an age of nothing, one below 1 is none.
        """
        ascending = sorted(timestamps)
        del ascending[: bisect_left(ascending, 1)]
        # Older records come first: those within a bound are all from some index on.
        first_within = len(ascending)
        for index, bound in enumerate(self.bounds[:-1]):
            first = bisect_left(ascending, now - bound * 1000)
            self.counts[index] += first_within - first
            first_within = first
        self.counts[-1] += first_within
        self.sum += max(0, len(ascending) * now - sum(ascending)) / 1000
