"""Scaling by lag as it is rehearsed: the trigger's lag, the autoscaler's decisions, the checks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.autoscale.checks import find_problems
from benchmarks.autoscale.load import CommandLoad, Expectation, generate_commands
from benchmarks.autoscale.orders import ThrottledRole
from benchmarks.autoscale.scaler import (
    HorizontalAutoscaler,
    ScalingRule,
    desired_replicas,
    reported_lag,
)
from benchmarks.autoscale.workload import Plan, StepFigures
from eventfleet.roles.role import ChunkReport
from eventfleet.topics.record import LogRecord, ProducerRecord

THRESHOLD = 100
UP = ScalingRule(replicas=4, period=15, window=0)
DOWN = ScalingRule(replicas=1, period=60, window=300)


# The trigger


@pytest.mark.parametrize(
    ("lags", "reported"),
    [
        ([0, 0], 0),
        ([30, 90], 120),
        ([0, 299], 299),
        ([200, 200], 200),
        ([9_000, 0], 200),
    ],
)
def test_the_lag_is_reported_up_to_one_replica_for_each_partition(
    lags: list[int], reported: int
) -> None:
    assert reported_lag(lags, THRESHOLD) == reported


@pytest.mark.parametrize(
    ("lag", "replicas", "desired"),
    [(0, 3, 0), (1, 1, 1), (201, 1, 3), (219, 2, 2), (221, 2, 3), (270, 3, 3), (269, 3, 3)],
)
def test_replicas_are_desired_so_that_each_has_the_threshold(
    lag: int, replicas: int, desired: int
) -> None:
    assert desired_replicas(lag, THRESHOLD, replicas) == desired


# The autoscaler


def decide_all(targets: Sequence[tuple[float, int]], **limits: int) -> list[int]:
    """The replicas after each target, from one on."""
    scaler = HorizontalAutoscaler(limits.get("least", 1), limits.get("most", 8), UP, DOWN)
    decided = [1]
    for now, target in targets:
        decided.append(scaler.decide(now, decided[-1], target))
    return decided[1:]


def test_replicas_go_up_at_once_so_many_in_a_period() -> None:
    assert decide_all([(0, 20), (5, 20), (14, 20), (16, 20)]) == [5, 5, 5, 8]


def test_replicas_stay_between_the_limits() -> None:
    assert decide_all([(0, 0), (1, 9)], most=3) == [1, 3]
    assert decide_all([(0, 0)], least=2) == [2]


def test_replicas_go_down_when_all_of_the_window_asks_for_it_one_in_a_period() -> None:
    targets = [(0.0, 4), *((float(now), 1) for now in range(15, 420, 15))]
    decided = decide_all(targets)
    down = [now for (now, _), a, b in zip(targets[1:], decided, decided[1:], strict=False) if b < a]
    assert down == [315.0, 390.0]
    assert decided[-1] == 2


def test_a_short_lull_does_not_cost_a_replica() -> None:
    assert decide_all([(0, 4), (100, 1), (200, 1), (290, 4), (580, 1)]) == [4, 4, 4, 4, 4]


# The checks of a rehearsal

PLAN = Plan(records_per_second=50, lag_threshold=THRESHOLD, grace=45, partitions=8)


def steps() -> list[StepFigures]:
    """The figures of a rehearsal in order."""
    return [
        StepFigures(25, "append", 1, workers=1, most_workers=1, peak_lag=40),
        StepFigures(250, "append", 1, workers=7, most_workers=7, peak_lag=900, drained_after=20.0),
        StepFigures(10, "append", 7, workers=1, most_workers=7, peak_lag=30),
    ]


def test_a_rehearsal_in_order_has_no_problems() -> None:
    assert find_problems(steps(), PLAN) == []


@pytest.mark.parametrize(
    ("at", "name", "value", "problem"),
    [
        (1, "peak_lag", 8_301, "append at 250 a second: a lag of 8301 is more than 8300"),
        (1, "drained_after", None, "append at 250 a second: the lag was not drained within 0 s"),
        (1, "most_workers", 9, "append at 250 a second: 9 workers for 8 partitions"),
        (1, "most_workers", 4, "append at 250 a second: 4 workers, not the 5 that it takes"),
        (2, "workers", 2, "append: 2 workers are left at the end, not 1"),
    ],
)
def test_each_check_finds_its_fault(at: int, name: str, value: Any, problem: str) -> None:
    figures = steps()
    setattr(figures[at], name, value)
    assert find_problems(figures, PLAN) == [problem]


# The load and the throttle


def test_the_load_expects_what_the_domain_accepts() -> None:
    commands = generate_commands()
    expected, accepted = Expectation(), []
    for command in [next(commands) for _ in range(500)]:
        before = expected.accepted
        expected.add(command)
        accepted += [command] * (expected.accepted - before)
    assert 0 < len(accepted) < 500
    expected.add(accepted[0])
    expected.add(replace(accepted[0], id="another"))
    assert expected.accepted == len(accepted)


async def test_the_load_keeps_to_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now, produced = 0.0, []

    class Writer:
        async def produce(self, records: Sequence[ProducerRecord]) -> None:
            produced.append(len(records))

    async def sleep(seconds: float) -> None:
        nonlocal now
        if now > 9:
            raise asyncio.CancelledError
        now += 1

    monkeypatch.setattr("time.monotonic", lambda: now)
    load = CommandLoad(Writer())  # type: ignore[arg-type]
    load.set_rate(30)
    monkeypatch.setattr("asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await load.run()
    assert (produced, load.sent) == ([30] * 10, 300)


async def test_throttled_roles_of_a_process_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Noting:
        async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
            log.append("done")
            return ChunkReport(stored=next_offset)

        async def open(self) -> int:
            return 7

    async def sleep(seconds: float, sleep: Any = asyncio.sleep) -> None:
        log.append(f"{seconds:g}")
        await sleep(0)

    monkeypatch.setattr("benchmarks.autoscale.orders.asyncio.sleep", sleep)
    turn = asyncio.Lock()
    roles = [ThrottledRole(Noting(), 0.5, turn) for _ in range(2)]  # type: ignore[arg-type]
    records: Any = [None, None]
    reports = await asyncio.gather(*(role.process(records, 3) for role in roles))
    assert [each.stored for each in reports] == [3, 3]
    assert log == ["1", "done", "1", "done"]
    assert await roles[0].open() == 7
