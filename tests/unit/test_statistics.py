"""What the rooms below count for the metrics: histograms, calls to servers, caches, commits."""

import asyncio
from collections.abc import Sequence
from math import inf
from random import Random
from uuid import uuid4

import pytest

from eventfleet.stores.errors import Duplicate, Fenced, ServerUnavailable
from eventfleet.stores.histogram import Histogram
from eventfleet.stores.server_calls import (
    OPERATIONS,
    CallStatistics,
    counted_failures,
    server_calls,
    timed_call,
)
from eventfleet.topics.record import ProducerRecord
from eventfleet.workers.timed_writer import TimedWriter

BOUNDS = (0.01, 0.1, 1, 10, inf)
NOW = 1_700_000_000_000


def test_a_value_at_a_bound_is_within_it() -> None:
    histogram = Histogram(BOUNDS)
    for value in (0.005, 0.01, 0.0101, 10, 11):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 0, 1, 1]
    assert (histogram.count, histogram.sum) == (5, pytest.approx(21.0251))


@pytest.mark.parametrize("seed", range(20))
def test_ages_of_a_chunk_are_counted_as_one_by_one(seed: int) -> None:
    random = Random(seed)
    ages = [random.choice((0, 9, 10, 11, 99, 100, 5_000, 10_000, 70_000)) for _ in range(200)]
    together, apart = Histogram(BOUNDS), Histogram(BOUNDS)
    together.observe_ages([NOW - age for age in ages], NOW)
    for age in ages:
        apart.observe(age / 1000)
    assert together.counts == apart.counts
    assert together.sum == pytest.approx(apart.sum)


def test_a_record_from_the_future_has_no_age_and_one_without_a_time_does_not_count() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe_ages([NOW + 5_000, 0, -1], NOW)
    assert (histogram.counts, histogram.sum) == ([1, 0, 0, 0, 0], 0)
    histogram.observe_ages([], NOW)
    assert histogram.count == 1


def mark_calls() -> CallStatistics:
    with timed_call("redis", "mark"):
        pass
    (found,) = [each for *names, each in server_calls() if names == ["redis", "mark"]]
    return found


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (ServerUnavailable("out"), 1),
        (LookupError("a bug"), 1),
        (Duplicate(0, "s", 1, "version"), 0),
        (Fenced("taken"), 0),
        (asyncio.CancelledError(), 0),
    ],
)
def test_a_call_that_fails_is_counted_unless_it_was_answered(
    error: BaseException, failures: int
) -> None:
    statistics = mark_calls()
    calls, errors = statistics.seconds.count, statistics.errors
    with pytest.raises(type(error)), timed_call("redis", "mark"):
        raise error
    assert (statistics.seconds.count, statistics.errors) == (calls + 1, errors + failures)
    with pytest.raises(type(error)), counted_failures("redis", "mark"):
        raise error
    assert (statistics.seconds.count, statistics.errors) == (calls + 1, errors + 2 * failures)


def test_there_are_no_other_operations() -> None:
    for server in OPERATIONS:
        with pytest.raises(KeyError):
            timed_call(server, str(uuid4()))


class Writer:
    """A PartitionWriter that fails where it is told to."""

    error: Exception | None = None
    committed: tuple[list[ProducerRecord], int] | None = None

    async def commit(
        self, records: list[ProducerRecord], next_offset: int, last: Sequence[ProducerRecord]
    ) -> None:
        if self.error:
            raise self.error
        self.committed = [*records, *last], next_offset


async def test_commits_are_timed_also_when_they_fail() -> None:
    writer, histogram = Writer(), Histogram(BOUNDS)
    timed = TimedWriter(writer, histogram)  # type: ignore[arg-type]
    await timed.commit([], 7)
    assert (writer.committed, histogram.count) == (([], 7), 1)
    writer.error = ServerUnavailable("out")
    with pytest.raises(ServerUnavailable):
        await timed.commit([], 8)
    assert histogram.count == 2
