"""Rules of a process log: learnt, written, read, and what a domain makes of them."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eventfleet.cli import main
from eventfleet.cli.local_fleet import SAMPLE_DOMAINS
from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import LogRow, RowProblem
from eventfleet.log_files.directly_follows import (
    MAX_PROBLEMS,
    UnusableRules,
    format_rules,
    learn_rules,
    read_rules,
)
from eventfleet.log_files.rows import Origin
from eventfleet.model.command_rules import START
from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.settings import Settings
from eventfleet.topics.errors import InvalidRecord

ORIGIN = Origin("a.jsonl", "line")
BAD = RowProblem(ORIGIN, 3, "time", "is missing")
HEADER = "case:concept:name,concept:name,time:timestamp\n"


def rows(*steps: str) -> list[LogRow | RowProblem]:
    """Rows of `case activity`."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        LogRow(ORIGIN, number, *step.split(), moment, {})  # type: ignore[arg-type]
        for number, step in enumerate(steps, 1)
    ]


def test_each_activity_may_follow_what_came_directly_before_it_in_a_case() -> None:
    learnt = learn_rules(
        rows("a open", "b open", "a check", "b close", "a close", "a check", "c check")
    )
    assert learnt.rules == {
        "check": [START, "close", "open"],
        "close": ["check", "open"],
        "open": [START],
    }
    assert (learnt.rows, learnt.left_out) == (7, 0)


def test_what_is_learnt_does_not_depend_on_how_cases_are_interleaved() -> None:
    cases = rows("a open", "a close"), rows("b open", "b open"), rows("c close")
    found = {
        format_rules(learn_rules([row for case in order for row in case]).rules)
        for order in permutations(cases)
    }
    assert len(found) == 1


def test_rows_that_are_no_events_are_left_out_and_the_first_reasons_kept() -> None:
    learnt = learn_rules([*rows("a open"), *[BAD] * 100, *rows("a close")])
    assert learnt.rules == {"close": ["open"], "open": [START]}
    assert (learnt.rows, learnt.left_out) == (102, 100)
    assert learnt.problems == ["a.jsonl, line 3: time: is missing"] * MAX_PROBLEMS


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    learnt = learn_rules(rows("a öffnen", 'a "zu"', "a öffnen"))
    file = tmp_path / "rules.json"
    file.write_bytes(format_rules(learnt.rules))
    assert read_rules(str(file)) == learnt.rules == {'"zu"': ["öffnen"], "öffnen": [START, '"zu"']}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "truncated"),
        ("[]", "object"),
        ("{}", "has no activity"),
        ('{"open": ""}', "array"),
        ('{"open": [1]}', "str"),
        ('{"": [""]}', "length >= 1"),
        ('{"open": ["", "opened"]}', "'opened' precedes other activities, but has no rule itself"),
    ],
)
def test_rules_that_cant_be_used_are_told(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(content)
    with pytest.raises(UnusableRules, match=reason) as caught:
        read_rules(str(file))
    assert str(file) in str(caught.value)


def test_with_rules_activities_are_commands_and_others_are_unknown() -> None:
    domain = with_rules(process_log, {"open": [START, "close"], "close": ["open"]})
    assert domain.uses_marker
    assert not process_log.uses_marker
    rule = domain.rule("open")
    assert (rule.type, rule.allowed) == ("open", {START, "close"})
    with pytest.raises(InvalidRecord, match="'check' is not a command of process_log"):
        domain.rule("check")
    assert (domain.state, domain.routes) == (process_log.state, process_log.routes)


def test_the_setting_gives_process_log_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('{"open": [""]}')
    assert not select_domains(Settings(domains=SAMPLE_DOMAINS))["process_log"].uses_marker
    domains = select_domains(Settings(domains=SAMPLE_DOMAINS, rules=str(file)))
    assert domains["process_log"].rule("open").allowed == {START}
    assert domains["orders"] is select_domains(Settings(domains=SAMPLE_DOMAINS))["orders"]


# The command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["learn-rules", *arguments])


def test_a_log_is_learnt_to_standard_output_or_a_file(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(
        HEADER + "a,open,2024-01-01T10:00:00Z\na,close,2024-01-01T11:00:00Z\n"
    )
    shown = run("log.csv")
    assert shown.exit_code == 0
    assert shown.stdout == '{\n  "close": ["open"],\n  "open": [""]\n}\n'
    assert shown.stderr == "learned from 2 rows, 2 activities: 2 successions\n"
    written = run("log.csv", "-o", "rules.json")
    assert (written.exit_code, written.stdout) == (0, "")
    assert (tmp_path / "rules.json").read_text() == shown.stdout


def test_columns_of_other_names_and_bad_rows(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "id,what,at\na,open,2024-01-01T10:00:00Z\na,close,yesterday\n"
    )
    result = run("log.csv", "--case", "id", "--activity", "what", "--time", "at")
    assert result.exit_code == 1
    assert result.stdout == '{\n  "open": [""]\n}\n'
    assert "log.csv, line 3: at: " in result.stderr


def test_a_file_that_cant_be_written_is_told_first(run: Callable[..., Result]) -> None:
    result = run("nowhere.csv", "-o", "no/such/folder.json")
    assert result.exit_code == 2
    assert "no/such/folder.json can't be written" in result.stderr
