"""The benchmarks' arithmetic, settings, and the runs of their contenders."""

import ast
import dataclasses
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import click
import msgspec
import pytest
from rich.table import Table

from benchmarks import file_growth, runner, scenario, scenarios, servers
from benchmarks.contenders.file_lone_data import Turns
from benchmarks.contenders.task import ContenderTask, Result, Stopwatch
from benchmarks.environment import read_variable
from benchmarks.results import Comparison, ScenarioResults, measure_value, spread
from benchmarks.runner import ContenderFailed, rotate
from benchmarks.scale import RoleRun, parse_counts, parse_roles
from benchmarks.scenario import Goal, Scenario, ServerAddresses
from eventfleet.model.command_rules import START, Emits
from eventfleet.topics.event import EventRecord

ROOT = Path(__file__).parents[2]
OURS, PEER = "ours", "the peer"
SERVERS = ServerAddresses("kafka:1", "mongodb://m", "redis://r")


def result(rate: float, cpu: float, **measures: float) -> Result:
    """A result of one second; `cpu` in microseconds an event."""
    return Result(int(rate), 1.0, cpu * rate / 1e6, 7, {}, measures)


async def never(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    raise AssertionError("no scenario runs here")


def make_scenario(*goals: Goal) -> Scenario:
    return Scenario("a scenario", "events/s", never, {OURS: "module_a", PEER: "module_b"}, goals)


def compare(ours: list[Result], theirs: list[Result], *goals: Goal) -> ScenarioResults:
    return ScenarioResults(make_scenario(*goals), {OURS: ours, PEER: theirs})


def test_figures_of_a_result() -> None:
    reported = Result(
        events=500, seconds=0.25, cpu=0.001, value_bytes=9, settings={}, measures={"p99": 0.5}
    )
    assert measure_value(reported, "throughput") == 2000
    assert measure_value(reported, "cpu") == pytest.approx(2.0)
    assert measure_value(reported, "p99") == 0.5


def test_a_result_survives_the_wire_with_its_measures_beside_the_other_keys() -> None:
    reported = Result(1, 2.0, 3.0, 4, {"chunk": 5, "loop": "asyncio"}, {"p50": 0.1, "p99": 0.2})
    assert msgspec.json.decode(reported.encode())["p99"] == 0.2
    assert Result.decode(reported.encode()) == reported


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"events":"one"}'])
def test_what_is_no_result_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Result.decode(line)


def test_the_ratio_is_the_median_of_the_repeats_ratios_not_the_ratio_of_medians() -> None:
    ours = [result(100, 1), result(300, 1), result(200, 1)]
    theirs = [result(100, 1), result(100, 1), result(400, 1)]
    assert compare(ours, theirs).ratio(PEER, "throughput") == 1.0


def test_spread_is_the_width_as_part_of_the_median() -> None:
    assert spread([90.0, 100.0, 120.0]) == pytest.approx(0.3)
    assert spread([5.0]) == 0.0
    assert spread([0.0, 0.0]) == 0.0


def test_each_repeat_begins_with_another_contender() -> None:
    contenders = ["a", "b", "c"]
    assert [rotate(contenders, repeat)[0] for repeat in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(rotate(contenders, repeat)) == contenders for repeat in range(4))


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
    assert goal.is_met(reached) is met


def test_rows_compare_throughput_and_cpu_and_hold_the_goals() -> None:
    goals = [Goal(PEER, at_least=0.8), Goal(PEER, "p99", at_most=3)]
    ours, theirs = [result(90, 4, p99=0.6)], [result(100, 2, p99=0.1)]
    rows = {row.unit: row for row in compare(ours, theirs, *goals).comparisons()}
    assert rows["events/s"] == Comparison(
        "a scenario", "events/s", 90.0, 0.0, PEER, 0.9, "at least 0.8", True
    )
    assert rows["CPU us/event"].ratio == pytest.approx(2.0)
    assert (rows["CPU us/event"].goal, rows["CPU us/event"].met) == (None, None)
    assert rows["s (p99)"].ratio == pytest.approx(6.0)
    assert rows["s (p99)"].met is False


def test_a_goal_without_a_peer_is_for_our_own_figure() -> None:
    goal = Goal("", "documents", at_most=20)
    reported = [result(1, 1, documents=20.0)]
    row = compare(reported, reported, goal).comparisons()[-1]
    assert (row.median, row.against, row.ratio, row.met) == (20.0, None, None, True)


def test_a_goal_without_limits_only_asks_for_the_comparison() -> None:
    row = compare([result(2, 1)], [result(1, 1)], Goal(PEER)).comparisons()[0]
    assert (row.ratio, row.goal, row.met) == (2.0, None, None)


def test_a_row_has_these_keys_on_the_wire() -> None:
    row = compare([result(2, 1)], [result(1, 1)]).comparisons()[0]
    keys = ["name", "unit", "median", "spread", "against", "ratio", "goal", "met"]
    assert list(msgspec.json.decode(msgspec.json.encode(row))) == keys


def test_only_the_first_start_of_a_clock_counts() -> None:
    clock = Stopwatch()
    with pytest.raises(RuntimeError):
        clock.stop()
    clock.start()
    started = clock._started
    clock.start()
    assert clock._started == started
    clock.stop()
    assert clock.seconds > 0


@pytest.mark.parametrize(("variable", "is_short"), [("1", True), ("", False), ("0", False)])
def test_short(variable: str, is_short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", variable)
    assert scenario.is_short() is is_short


# Settings


def test_scenarios_are_selected_by_name_in_their_own_order() -> None:
    selected = [each.name for each in scenarios.select("relay, http_synchronous,append")]
    assert selected == ["append", "relay", "http synchronous"]


def test_an_unknown_scenario_is_refused_with_the_known_names() -> None:
    with pytest.raises(click.BadParameter, match=r"named apend; the names are .*append, snapshot"):
        scenarios.select("apend")


@pytest.mark.parametrize(("short", "expected"), [("1", scenarios.SHORT), ("", scenarios.ALL)])
def test_without_names_a_short_run_has_fewer_scenarios(
    short: str, expected: list[Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", short)
    assert scenarios.select("") == expected


@pytest.mark.parametrize(
    ("names", "starts"), [("file-append,file-relay", False), ("file-append,relay", True)]
)
def test_servers_are_started_where_a_scenario_needs_them(
    names: str, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "provide_servers", lambda: nullcontext(SERVERS))
    with servers.provide_needed(scenarios.select(names)) as provided:
        assert (provided == SERVERS) is starts


@pytest.mark.parametrize(
    ("new", "former", "value", "warns"),
    [
        ("append", "", "append", False),
        ("append", "relay", "append", False),
        ("", "relay", "relay", True),
        ("", "24", "", False),
        ("", "", "", False),
    ],
)
def test_a_former_name_still_works_with_a_warning_but_not_a_terminals_height(
    new: str,
    former: str,
    value: str,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SCENARIOS", new)
    monkeypatch.setenv("LINES", former)
    assert read_variable("SCENARIOS", "LINES") == value
    assert ("LINES is now called SCENARIOS" in capsys.readouterr().err) is warns


def test_a_chart_may_be_named_by_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHART", raising=False)
    monkeypatch.setenv("PICTURE", "7")
    assert read_variable("CHART", "PICTURE") == "7"


def test_roles_to_scale_are_parsed_and_unknown_ones_refused() -> None:
    context, option = click.Context(click.Command("scale")), click.Option(["--roles"])
    assert parse_roles(context, option, "relay, command") == ["relay", "command"]
    with pytest.raises(click.BadParameter, match="named relais; the roles are command"):
        parse_roles(context, option, "relais")


def test_numbers_of_workers_are_parsed_and_those_beyond_the_partitions_refused() -> None:
    context, option = click.Context(click.Command("scale")), click.Option(["--workers"])
    assert parse_counts(context, option, "1, 8") == [1, 8]
    for wrong in ("0", "9", "1,", "one"):
        with pytest.raises(click.BadParameter, match="is not a list of numbers from 1 to 8"):
            parse_counts(context, option, wrong)


def test_callers_take_each_of_their_turns_once() -> None:
    turns = Turns(5)
    one, other = iter(turns), iter(turns)
    assert [next(one), next(other), next(other)] == [0, 1, 2]
    assert [*one, *other] == [3, 4]


def test_a_call_that_takes_longer_in_a_large_file_is_marked() -> None:
    table = Table("call", "small file", "large file", "ratio")
    assert file_growth.add_growth(table, "a command", 1.0, 1.3)
    assert not file_growth.add_growth(table, "a query", 1.0, 1.31)
    assert [*table.columns[3].cells] == ["1.30", "1.31 above 1.3"]


def test_the_bytes_of_a_log_are_divided_among_its_topics() -> None:
    tables = {"events": 500, "snapshots": 90, "log_records": 900, "log_partitions": 100, "file": 10}
    topics = {"orders.events": 4.0, "orders.stored": 4.0, "shipping": 1.0, "finance": 1.0}
    assert file_growth.divide_bytes(tables, topics, 1_700) == {
        "the file, with the log": 1_700,
        "the file, without the log": 700,
        "events and their indexes": 500,
        "snapshots": 90,
        "log: events": 400,
        "log: stored": 400,
        "log: snapshots": 0,
        "log: routes": 200,
    }


def test_a_file_is_filled_with_the_chains_of_events_that_commands_make() -> None:
    count = len(file_growth.sample_events()) + 500
    events = [*islice(file_growth.generate_events(), count)]
    assert len({event.id for event in events}) == count
    rules = [each for each in file_growth.shop.commands if isinstance(each, Emits)]
    latest: dict[str, EventRecord] = {}
    for event in events:
        before = latest.get(event.aggregate_id)
        (allowed,) = (each.allowed for each in rules if each.type == event.type)
        assert event.prev == (before.id if before else "")
        assert allowed is not None
        assert (before.type if before else START) in allowed
        latest[event.aggregate_id] = event


def test_a_role_run_without_records_has_no_figures() -> None:
    assert RoleRun(2000, 0.5, 0.01, 3 << 20).figures() == ("4,000", "5.0", "3")
    assert RoleRun(0, 0.5, 0.01, 3 << 20).figures() == ("-", "-", "3")


# Contenders as processes

TASK = ContenderTask(
    "k:1", "m", "r", "d", topic="t", group="g", partitions=1, records=3, chunk=2, database="b"
)


async def run_code(code: str, task: ContenderTask = TASK, timeout: float = 60.0) -> Result:
    return await runner.run_program("a peer", [sys.executable, "-c", code], task, timeout)


WRITES_RESULT = """
from benchmarks.contenders.file_lone_data import Turns
from benchmarks.contenders.task import Result, read_task, write_result
task = read_task()
write_result(Result(task.records, 1.0, 1.0, {value_bytes}, {{"chunk": task.chunk}}))
"""


async def test_a_contender_gets_its_task_and_its_result_is_read() -> None:
    assert await run_code(WRITES_RESULT.format(value_bytes=600)) == Result(
        3, 1.0, 1.0, 600, {"chunk": 2}
    )


async def test_a_contender_that_read_something_else_has_failed() -> None:
    task = msgspec.structs.replace(TASK, extra={"value_bytes": 601})
    with pytest.raises(ContenderFailed, match=r"600 bytes; expected 3 with 601"):
        await run_code(WRITES_RESULT.format(value_bytes=600), task)


async def test_a_contender_that_fails_is_reported_with_what_it_wrote() -> None:
    with pytest.raises(ContenderFailed, match=r"(?s)status 1.*broken on purpose"):
        await run_code("raise ValueError('broken on purpose')")


async def test_a_contender_that_prints_nothing_has_failed() -> None:
    with pytest.raises(ContenderFailed, match=r"(?s)printed no result.*a warning"):
        await run_code("import sys; sys.stderr.write('a warning')")


async def test_a_contender_that_does_not_end_is_ended() -> None:
    with pytest.raises(ContenderFailed, match="did not end within"):
        await run_code("import time; time.sleep(600)", timeout=1.0)


async def test_settings_of_the_surroundings_do_not_reach_a_contender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENTFLEET_CHUNK_RECORDS", "1")
    leaked = "assert not [name for name in __import__('os').environ if 'EVENTFLEET' in name]"
    assert (await run_code(leaked + WRITES_RESULT.format(value_bytes=1))).events == 3


# A whole scenario


async def test_contenders_run_by_turns_and_only_ours_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[tuple[str, int]] = []
    verified: list[ContenderTask] = []

    async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
        assert servers is SERVERS
        return msgspec.structs.replace(TASK, group=f"{contender} {repeat}")

    async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
        verified.append(task)

    async def run_contender(contender: str, module: str, task: ContenderTask) -> Result:
        assert module == {OURS: "module_a", PEER: "module_b"}[contender]
        return result(100, 1)

    monkeypatch.setattr(runner, "run_contender", run_contender)
    a_scenario = dataclasses.replace(make_scenario(), prepare=prepare, verify=verify)
    finished = await runner.run_scenario(
        a_scenario, SERVERS, 2, lambda contender, repeat, _: order.append((contender, repeat))
    )
    assert order == [(OURS, 0), (PEER, 0), (PEER, 1), (OURS, 1)]
    assert [task.group for task in verified] == [f"{OURS} 0", f"{OURS} 1"]
    assert {name: len(results) for name, results in finished.results.items()} == {OURS: 2, PEER: 2}


async def test_what_is_not_stored_right_fails_the_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
        return TASK

    async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
        raise AssertionError("one event is missing")

    async def run_contender(contender: str, module: str, task: ContenderTask) -> Result:
        return result(100, 1)

    monkeypatch.setattr(runner, "run_contender", run_contender)
    a_scenario = dataclasses.replace(make_scenario(), prepare=prepare, verify=verify)
    with pytest.raises(ContenderFailed, match="one event is missing"):
        await runner.run_scenario(a_scenario, SERVERS, 1, lambda *_: None)


def test_what_benchmarks_import_of_the_package_exists() -> None:
    """Their own dependencies are not installed here, so they can't be imported themselves."""
    missing = []
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.ImportFrom) and (found.module or "").startswith("eventfleet"):
                module = import_module(found.module or "")
                missing += [
                    f"{path.name}: {found.module}.{each.name}"
                    for each in found.names
                    if not hasattr(module, each.name)
                    and find_spec(f"{found.module}.{each.name}") is None
                ]
    assert not missing
