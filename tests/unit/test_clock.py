"""The real clock, and ids that sort by the time of their making."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest

from eventfleet.stores import ids as ids_module
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.event import truncate_to_milliseconds


def test_now_is_utc_in_whole_milliseconds() -> None:
    earliest = truncate_to_milliseconds(datetime.now(UTC))
    now = SystemClock().now()
    assert earliest <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta()
    assert now.microsecond % 1000 == 0


def test_steady_time_does_not_follow_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before, wall = clock.steady(), clock.now()
    year_ago = time.time_ns() - 365 * 24 * 3_600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: year_ago)
    assert clock.now() < wall
    assert before <= clock.steady() < before + timedelta(days=1)


async def test_others_run_while_one_sleeps() -> None:
    woken = []

    async def sleep(seconds: float) -> None:
        await SystemClock().sleep(seconds)
        woken.append(seconds)

    await asyncio.gather(sleep(0.05), sleep(0))
    assert woken == [0, 0.05]


# Ids


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    earliest = time.time_ns() // 1_000_000
    made = UUID(Uuid7Generator().new())
    latest = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == RFC_4122
    assert earliest <= made.int >> 80 <= latest


def test_later_ids_sort_after_earlier_ones() -> None:
    ids = Uuid7Generator()
    made = [ids.new() for _ in range(100_000)]
    assert all(before < after for before, after in pairwise(made))
    assert all(one[14] == "7" and one[19] in "89ab" for one in made)


@pytest.mark.parametrize("step", [0, -1_000_000])
def test_they_do_so_within_one_millisecond_and_when_the_clock_goes_back(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTime(1_700_000_000_000_000_000, step)
    monkeypatch.setattr(ids_module, "time", fake)
    ids = Uuid7Generator()
    made = [ids.new() for _ in range(100_000)]
    assert all(before < after for before, after in pairwise(made))
    assert all(one[14] == "7" and one[19] in "89ab" for one in made)


def test_ids_of_several_processes_differ_also_in_one_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ids_module, "time", FakeTime(1_700_000_000_000_000_000, 0))
    makers = [Uuid7Generator() for _ in range(100)]
    made = {maker.new() for maker in makers for _ in range(500)}
    assert len(made) == 50_000


class FakeTime:
    """A clock that moves by `step` nanoseconds whenever it is read."""

    def __init__(self, start: int, step: int) -> None:
        self._now = start
        self._step = step

    def time_ns(self) -> int:
        self._now += self._step
        return self._now
