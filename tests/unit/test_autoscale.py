"""Scaling by lag as it is rehearsed: the trigger's lag, the autoscaler's decisions, the checks."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import click
import pytest
from msgspec.structs import replace

from benchmarks.autoscale.__main__ import RATES, parse_rates
from benchmarks.autoscale.checks import find_differences, find_problems
from benchmarks.autoscale.load import CommandLoad, Expectation, generate_commands
from benchmarks.autoscale.orders import ThrottledRole
from benchmarks.autoscale.scaler import (
    HorizontalAutoscaler,
    ScalingRule,
    desired_replicas,
    reported_lag,
)
from benchmarks.autoscale.workload import Plan, StepFigures, Workload
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
        (1, "peak_lag", 5_801, "append at 250 a second: a lag of 5801 is more than 5800"),
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


def test_the_lag_may_grow_until_enough_workers_are_ready() -> None:
    figures = steps()
    figures[1].peak_lag = 5_801
    figures[1].enough_after = 1.0
    assert find_problems(figures, PLAN) == []


REPORT = {"clean": True, "dead_letters": 0, "stored": 90}


@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("clean", False, ["clean: False, not True"]),
        ("dead_letters", 1, ["dead_letters: 1, not 0"]),
        ("stored", 91, ["stored: 91, not 90"]),
        ("stored", 90, []),
    ],
)
def test_an_audit_that_differs_from_the_load_is_found(
    name: str, value: Any, difference: list[str]
) -> None:
    assert [*find_differences(REPORT | {name: value}, 100, sent=100, accepted=90)] == difference


def test_a_command_without_a_reply_is_found() -> None:
    assert [*find_differences(REPORT, 99, sent=100, accepted=90)] == ["replies: 99, not 100"]


# The processes of a role


class FakeProcess:
    """A process that ends with a status when a test says so."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self.signals: list[str] = []

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.signals.append("TERM")


class FakeWorker:
    def __init__(self) -> None:
        self.process, self.status = FakeProcess(), 503

    def get(self, path: str) -> tuple[int, str]:
        return self.status, path

    def metric(self, name: str, **labels: str) -> float:
        return 0.0

    def output(self) -> str:
        return "the log"

    def kill(self) -> None:
        self.process.signals.append("KILL")


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch) -> Workload:
    monkeypatch.setattr(Workload, "_start", lambda self: FakeWorker())
    made = Workload(None, "append", PLAN, None)  # type: ignore[arg-type]
    made.run(3)
    return made


def test_the_newest_worker_is_stopped_first_and_may_take_its_time(workload: Workload) -> None:
    newest: Any = workload.workers[-1]
    workload.run(2)
    workload.check_processes()
    assert newest.process.signals == ["TERM"]
    assert (len(workload.workers), workload.is_stopping, workload.problems) == (2, True, [])
    newest.process.returncode = 0
    workload.check_processes()
    assert (workload.is_stopping, workload.problems) == (False, [])


def test_it_is_noted_when_enough_workers_are_ready(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, workers = 100.0, list[Any](workload.workers)
    monkeypatch.setattr("time.monotonic", lambda: now)
    workload.begin_step(rate=101)
    now += 10
    workers[0].status = workers[1].status = 200
    workload.note_ready()
    assert workload.end_step().enough_after is None
    workload.begin_step(rate=101)
    now += 10
    workers[2].status = 200
    workload.note_ready()
    assert workload.end_step().enough_after == 10.0
    workload.begin_step(rate=150)
    assert workload.end_step().enough_after == 0.0


def test_a_worker_that_does_not_stop_in_time_or_as_it_should_is_a_problem(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (each.process for each in workload.workers)
    workload.run(1)
    second.returncode = 1
    now = time.monotonic() + PLAN.grace + 1
    monkeypatch.setattr("time.monotonic", lambda: now)
    workload.check_processes()
    assert third.signals == ["TERM", "KILL"]  # type: ignore[attr-defined]
    assert sorted(problem.partition(":")[0] for problem in workload.problems) == [
        "a worker of append had not stopped within 45 s",
        "a worker of append stopped with status 1",
    ]
    first.returncode = -9
    workload.check_processes()
    assert workload.problems[-1].startswith("a worker of append ended by itself with status -9:")


def test_a_lag_is_drained_when_it_is_back_at_the_threshold_for_each_worker(
    workload: Workload,
) -> None:
    workload.begin_step(rate=150)
    for lag, drained in ((330, True), (331, False), (400, False), (330, True)):
        workload.scale([lag, 0])
        assert workload.is_drained is drained
    assert workload.end_step().peak_lag == 400


# The load and the throttle


def test_rates_are_parsed_and_others_refused() -> None:
    context, option = click.Context(click.Command("autoscale")), click.Option(["--rates"])
    assert parse_rates(context, option, RATES) == [10, 40, 70, 20, 4]
    for wrong in ("0", "5,", "many"):
        with pytest.raises(click.BadParameter, match="is not a list of positive numbers"):
            parse_rates(context, option, wrong)


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
