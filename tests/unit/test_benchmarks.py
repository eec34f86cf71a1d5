"""The benchmark's own arithmetic: what it makes of the results that sides tell."""

import dataclasses
import sys

import msgspec
import pytest

from benchmarks import measure, scenario
from benchmarks.contenders.task import Clock, Result, Task
from benchmarks.measure import Row, Runs, SideFailed, spread, turns, value
from benchmarks.scenario import Goal, Line, Servers

OURS, PEER = "ours", "the peer"
SERVERS = Servers("kafka:1", "mongodb://m", "redis://r")


def result(rate: float, cpu: float, **measures: float) -> Result:
    """A second's worth; `cpu` in microseconds an event."""
    return Result(int(rate), 1.0, cpu * rate / 1e6, 7, {}, measures)


async def never(servers: Servers, side: str, repeat: int) -> Task:
    raise AssertionError("nothing is run here")


def a_line(*goals: Goal) -> Line:
    return Line("a line", "events/s", never, {OURS: "module_a", PEER: "module_b"}, goals)


def runs(ours: list[Result], theirs: list[Result], *goals: Goal) -> Runs:
    return Runs(a_line(*goals), {OURS: ours, PEER: theirs})


def test_figures_of_a_result() -> None:
    told = Result(events=500, seconds=0.25, cpu=0.001, check=9, settings={}, measures={"p99": 0.5})
    assert value(told, "throughput") == 2000
    assert value(told, "cpu") == pytest.approx(2.0)
    assert value(told, "p99") == 0.5


def test_a_result_survives_the_wire_with_its_measures_beside_the_other_keys() -> None:
    told = Result(1, 2.0, 3.0, 4, {"chunk": 5, "loop": "asyncio"}, {"p50": 0.1, "p99": 0.2})
    assert msgspec.json.decode(told.line())["p99"] == 0.2
    assert Result.parse(told.line()) == told


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"events":"one"}'])
def test_what_is_no_result_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Result.parse(line)


def test_the_ratio_is_the_median_of_the_repeats_ratios_not_the_ratio_of_medians() -> None:
    ours = [result(100, 1), result(300, 1), result(200, 1)]
    theirs = [result(100, 1), result(100, 1), result(400, 1)]
    assert runs(ours, theirs).ratio(PEER, "throughput") == 1.0


def test_spread_is_the_width_as_part_of_the_median() -> None:
    assert spread([90.0, 100.0, 120.0]) == pytest.approx(0.3)
    assert spread([5.0]) == 0.0
    assert spread([0.0, 0.0]) == 0.0


def test_each_repeat_begins_with_another_side() -> None:
    sides = ["a", "b", "c"]
    assert [turns(sides, repeat)[0] for repeat in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(turns(sides, repeat)) == sides for repeat in range(4))


@pytest.mark.parametrize(
    ("goal", "reached", "met"),
    [
        (Goal(PEER, at_least=12), 12.0, True),
        (Goal(PEER, at_least=12), 11.99, False),
        (Goal(PEER, "cpu", at_most=2.5), 2.5, True),
        (Goal(PEER, "cpu", at_most=2.5), 2.51, False),
        (Goal(PEER, at_least=1, at_most=2), 3.0, False),
    ],
)
def test_whether_a_goal_is_met(goal: Goal, reached: float, met: bool) -> None:
    assert goal.met(reached) is met


def test_rows_compare_throughput_and_cpu_and_hold_the_goals() -> None:
    goals = [Goal(PEER, at_least=0.8), Goal(PEER, "p99", at_most=3)]
    ours, theirs = [result(90, 4, p99=0.6)], [result(100, 2, p99=0.1)]
    rows = {row.unit: row for row in runs(ours, theirs, *goals).rows()}
    assert rows["events/s"] == Row("a line", "events/s", 90.0, 0.0, PEER, 0.9, "at least 0.8", True)
    assert rows["CPU us/event"].ratio == pytest.approx(2.0)
    assert (rows["CPU us/event"].goal, rows["CPU us/event"].met) == (None, None)
    assert rows["s (p99)"].ratio == pytest.approx(6.0)
    assert rows["s (p99)"].met is False


def test_a_goal_without_a_peer_is_for_our_own_figure() -> None:
    goal = Goal("", "documents", at_most=20)
    told = [result(1, 1, documents=20.0)]
    row = runs(told, told, goal).rows()[-1]
    assert (row.median, row.against, row.ratio, row.met) == (20.0, None, None, True)


def test_a_goal_without_limits_only_asks_for_the_comparison() -> None:
    row = runs([result(2, 1)], [result(1, 1)], Goal(PEER)).rows()[0]
    assert (row.ratio, row.goal, row.met) == (2.0, None, None)


def test_a_row_has_these_keys_on_the_wire() -> None:
    row = runs([result(2, 1)], [result(1, 1)]).rows()[0]
    keys = ["name", "unit", "median", "spread", "against", "ratio", "goal", "met"]
    assert list(msgspec.json.decode(msgspec.json.encode(row))) == keys


def test_only_the_first_start_of_a_clock_counts() -> None:
    clock = Clock()
    with pytest.raises(RuntimeError):
        clock.stop()
    clock.start()
    began = clock._began
    clock.start()
    assert clock._began == began
    clock.stop()
    assert clock.seconds > 0


@pytest.mark.parametrize(("variable", "is_short"), [("1", True), ("", False), ("0", False)])
def test_short(variable: str, is_short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", variable)
    assert scenario.short() is is_short


# Sides as processes

TASK = Task("k:1", "m", "r", "d", "t", "g", partitions=1, records=3, chunk=2, database="b")


async def ask(code: str, task: Task = TASK, limit: float = 60.0) -> Result:
    return await measure.ask("a side", [sys.executable, "-c", code], task, limit)


TELLS = """
from benchmarks.contenders.task import Result, task, told
told(Result(task().records, 1.0, 1.0, {check}, {{"chunk": task().chunk}}))
"""


async def test_a_side_gets_its_task_and_its_result_is_read() -> None:
    assert await ask(TELLS.format(check=600)) == Result(3, 1.0, 1.0, 600, {"chunk": 2})


async def test_a_side_that_read_something_else_has_failed() -> None:
    task = msgspec.structs.replace(TASK, more={"check": 601})
    with pytest.raises(SideFailed, match=r"600 bytes; it had to be 3 with 601"):
        await ask(TELLS.format(check=600), task)


async def test_a_side_that_fails_is_reported_with_what_it_wrote() -> None:
    with pytest.raises(SideFailed, match=r"(?s)status 1.*broken on purpose"):
        await ask("raise ValueError('broken on purpose')")


async def test_a_side_that_tells_nothing_has_failed() -> None:
    with pytest.raises(SideFailed, match=r"(?s)told no result.*a warning"):
        await ask("import sys; sys.stderr.write('a warning')")


async def test_a_side_that_does_not_end_is_ended() -> None:
    with pytest.raises(SideFailed, match="has not ended within"):
        await ask("import time; time.sleep(600)", limit=1.0)


async def test_settings_of_the_surroundings_do_not_reach_a_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENTFLEET_CHUNK_RECORDS", "1")
    leaked = "assert not [name for name in __import__('os').environ if 'EVENTFLEET' in name]"
    assert (await ask(leaked + TELLS.format(check=1))).events == 3


# A whole line


async def test_sides_run_by_turns_and_only_ours_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[tuple[str, int]] = []
    verified: list[Task] = []

    async def prepare(servers: Servers, side: str, repeat: int) -> Task:
        assert servers is SERVERS
        return msgspec.structs.replace(TASK, group=f"{side} {repeat}")

    async def verify(servers: Servers, task: Task) -> None:
        verified.append(task)

    async def run(side: str, module: str, task: Task) -> Result:
        assert module == {OURS: "module_a", PEER: "module_b"}[side]
        return result(100, 1)

    monkeypatch.setattr(measure, "run", run)
    line = dataclasses.replace(a_line(), prepare=prepare, verify=verify)
    runs = await measure.measure(
        line, SERVERS, 2, lambda side, repeat, _: order.append((side, repeat))
    )
    assert order == [(OURS, 0), (PEER, 0), (PEER, 1), (OURS, 1)]
    assert [task.group for task in verified] == [f"{OURS} 0", f"{OURS} 1"]
    assert {side: len(results) for side, results in runs.results.items()} == {OURS: 2, PEER: 2}


async def test_what_is_not_stored_right_fails_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare(servers: Servers, side: str, repeat: int) -> Task:
        return TASK

    async def verify(servers: Servers, task: Task) -> None:
        raise AssertionError("one event is missing")

    async def run(side: str, module: str, task: Task) -> Result:
        return result(100, 1)

    monkeypatch.setattr(measure, "run", run)
    line = dataclasses.replace(a_line(), prepare=prepare, verify=verify)
    with pytest.raises(SideFailed, match="one event is missing"):
        await measure.measure(line, SERVERS, 1, lambda *_: None)
