"""The command line of `eventfleet check`, and the file that `eventfleet events --all` writes."""

import gzip
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eventfleet.cli import main
from eventfleet.runtime import connections
from eventfleet.runtime.settings import PREFIX
from eventfleet.stores.memory.log import MemoryAdmin, MemoryReader
from eventfleet.topics.codec import decode
from eventfleet.topics.event import EventRecord
from tests.unit.audit_fixture import PREFIX as GROUPS
from tests.unit.check_fixture import CheckFixture

MODULE = "tests.unit.check_fixture"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Result:
    given = {"DOMAINS": MODULE, "PARTITIONS": "1", "GROUP_PREFIX": GROUPS} | variables
    environment = {PREFIX + name: value for name, value in given.items()}
    return CliRunner().invoke(main, arguments, env=environment, input=stdin)


def reports(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> CheckFixture:
    """The servers that the settings of `run` name."""
    fleet = CheckFixture()
    await fleet.work_on_bills()

    def opens(make: Callable[[], Any]) -> Any:
        @asynccontextmanager
        async def open_server(*_: Any, **__: Any) -> AsyncIterator[Any]:
            yield make()

        return open_server

    monkeypatch.setattr(connections, "log_reader", opens(lambda: MemoryReader(fleet.log)))
    monkeypatch.setattr(connections, "log_admin", opens(lambda: MemoryAdmin(fleet.log)))
    stores = {"bills": fleet.memory.stores}
    monkeypatch.setattr(connections, "stores", opens(lambda: stores))
    return fleet


def stored(fleet: CheckFixture, version: int) -> EventRecord:
    """An event of the bill `a`."""
    return fleet.memory.events._streams["a"][version]


@pytest.fixture
def file(fleet: CheckFixture, tmp_path: Path) -> Path:
    """A file of the fleet's events."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(run("events", "bills", "--all", "--json").stdout_bytes)
    return path


def test_a_sound_domain_has_status_0(fleet: CheckFixture) -> None:
    done = run("check")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "bills: 5 events of 2 aggregates folded, 1 snapshot compared",
        "bills: clean",
    ]
    assert done.stderr == ""


def test_each_finding_is_a_line_with_domain_place_and_advice(fleet: CheckFixture) -> None:
    fleet.alter(stored(fleet, 2), data={"amount": "much"})
    done = run("check", "bills")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "bills: 5 events of 2 aggregates folded, 0 snapshots compared",
        "bills: note: snapshots above an event that can't be folded were not compared",
        "bills: [event] event Paid, schema version 1: data.amount: Expected `int`, got `str`; "
        "1 event, the first 'a' version 2; the roles that read these events park their "
        "aggregates, and commands on them are answered Failed; add an upcaster from schema "
        "version 1, or give a new field a default",
        "bills: 1 finding",
    ]


def test_json_has_findings_and_counts(fleet: CheckFixture) -> None:
    fleet.alter(stored(fleet, 3), type="Lost")
    done = run("check", "--json")
    assert done.exit_code == 1
    [report] = reports(done)
    assert report["findings"] == [
        {
            "kind": "event-type",
            "where": "event Lost, schema version 1",
            "detail": "is stored, but not declared",
            "advice": "declare it again: stored events are never removed",
            "count": 1,
            "unit": "events",
            "aggregate_id": "a",
            "version": 3,
            "consequence": "the roles that read these events park their aggregates, and commands "
            "on them are answered Failed",
        }
    ]
    assert (report["domain"], report["clean"], report["events"]) == ("bills", False, 5)
    assert report["counts"] == {"event-type": 1}


def test_a_setting_that_does_not_fit_the_servers_has_status_1(fleet: CheckFixture) -> None:
    done = run("check", PARTITIONS="3")
    assert done.exit_code == 1
    fault = "EVENTFLEET_PARTITIONS is 3, but topic bills.events has 1 partitions"
    assert f"bills: [partitions] topics: {fault}" in done.stdout


def test_a_sample_says_so(fleet: CheckFixture) -> None:
    done = run("check", "--sample", "1")
    assert done.exit_code == 0
    assert "bills: note: only 1 of 2 aggregates were checked\n" in done.stdout
    assert "4 events of 1 aggregate folded" in done.stdout
    [report] = reports(run("check", "--sample", "1", "--json"))
    assert report["notes"] == {"only 1 of 2 aggregates were checked": 1}


def test_servers_that_do_not_answer_are_findings() -> None:
    nowhere = {
        "KAFKA_BROKERS": "127.0.0.1:1",
        "MONGO_URL": "mongodb://ann:hunter2@127.0.0.1:2/?directConnection=true",
        "MONGO_TIMEOUT": "1",
    }
    done = run("check", "--json", **nowhere)
    assert done.exit_code == 1
    [report] = reports(done)
    assert [(each["kind"], each["where"]) for each in report["findings"]] == [
        ("server", "Kafka"),
        ("server", "MongoDB"),
    ]
    assert "hunter2" not in done.output


# A file of events


def test_all_events_are_grouped_by_aggregate_in_version_order(
    fleet: CheckFixture, file: Path
) -> None:
    events = [decode(line) for line in file.read_bytes().splitlines()]
    places = [(event.aggregate_id, event.version) for event in events]
    assert places == [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1)]
    lines = run("events", "bills", "--all").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "a", "a", "a", "b"]


def test_the_file_is_checked_without_servers(file: Path) -> None:
    done = run("check", "--events", str(file))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("bills: 5 events of 2 aggregates folded")
    packed = file.with_suffix(".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert run("check", "--events", str(packed)).stdout == done.stdout


def test_standard_input_is_checked(file: Path) -> None:
    done = run("check", "--events", "-", "--json", stdin=file.read_bytes() + b"no event\n")
    assert done.exit_code == 1
    [report] = reports(done)
    assert [each["where"] for each in report["findings"]] == ["standard input, line 6"]
    assert report["events"] == 5


def test_other_code_is_checked_against_the_file(file: Path, tmp_path: Path) -> None:
    """The code in the working folder has lost an event type."""
    done = run("check", "bills", "--events", str(file), DOMAINS="tests.unit.check_without_paid")
    assert done.exit_code == 1
    assert "bills: [event-type] event Paid, schema version 1: is stored, but not" in done.stdout
    assert "; 3 events, the first 'a' version 2; " in done.stdout


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("check", "--sample", "0"), "0 is not in the range x>=1"),
        (("check", "--sample", "3", "--events", "-"), "--sample is for stored events"),
        (("events", "bills"), "give the ID of one aggregate, or --all"),
        (("events", "bills", "a", "--all"), "give the ID of one aggregate, or --all"),
        (("events", "bills", "--all", "--limit", "3"), "--all prints every event"),
    ],
)
def test_wrong_usage_has_status_2(command: tuple[str, ...], said: str) -> None:
    done = run(*command)
    assert done.exit_code == 2
    assert said in done.stderr


def test_all_events_do_not_come_over_http() -> None:
    done = run("events", "bills", "--all", SERVICE_URL="http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "unset EVENTFLEET_SERVICE_URL" in done.stderr


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    done = run("check", "--events", str(tmp_path / "none.jsonl"))
    assert done.exit_code == 1
    assert "none.jsonl: there is no such file" in done.stderr
