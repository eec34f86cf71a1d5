"""The command `eventfleet` on real servers, with the domains of a team's own module."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import pytest

from eventfleet.runtime.settings import PREFIX
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.reader import Reader
from eventfleet.topics.names import Topics
from tests.acceptance.printed_rows import MODULE, rows
from tests.program import Program, run_program, start_program


@dataclass(frozen=True)
class CliShell:
    """Runs the command in a folder, with an environment of its own."""

    folder: Path
    variables: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIX)}
        return inherited | {PREFIX + name: value for name, value in self.variables.items()}

    def given(self, **variables: str) -> "CliShell":
        return CliShell(self.folder, self.variables | variables)

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return run_program(arguments, self.environment, self.folder, seconds)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.stderr == ""
        assert done.returncode == 0
        return json.loads(done.stdout)

    @contextmanager
    def started(self, *arguments: str) -> Iterator["Started"]:
        log = self.folder / f"{uuid.uuid4().hex}.log"
        process = start_program(arguments, self.environment, self.folder, log)
        try:
            yield Started(process, log)
        finally:
            process.kill()
            process.wait(timeout=20)


@dataclass(frozen=True)
class Started:
    process: Program
    log: Path

    def output(self) -> str:
        return self.log.read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=40)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of its health server; status 0 until that is up."""
        found = re.search(r"http://\S+", self.output())
        assert self.process.poll() is None, self.output()
        if not found:
            return 0, ""
        try:
            with urllib.request.urlopen(f"{found[0]}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.get("/ready")[0] == 200


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Domains: one to read, one to spoil, one that no worker serves."""
    return [f"t{uuid.uuid4().hex[:12]}" for _ in range(3)]


@pytest.fixture(scope="module")
def shell(
    kafka: str, mongo_url: str, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> CliShell:
    folder = tmp_path_factory.mktemp("team")
    declared = "\n".join(f"d{i} = declared({name!r})" for i, name in enumerate(names))
    (folder / "accounts.py").write_text(MODULE + declared + "\n")
    return CliShell(
        folder,
        {
            "DOMAINS": "accounts",
            "KAFKA_BROKERS": kafka,
            "MONGO_URL": mongo_url,
            "MONGO_DATABASE": names[0],
            "GROUP_PREFIX": names[0],
            "PARTITIONS": "2",
            "METRICS_PORT": "0",
        },
    )


@pytest.fixture(scope="module")
def topics(shell: CliShell) -> list[str]:
    return list(shell.json("topics", "create")["created"])


@pytest.fixture(scope="module")
def worker(shell: CliShell, names: list[str], topics: list[str]) -> Iterator[Started]:
    roles = ("append", "snapshot", "relay")
    with shell.started("worker", *roles, "--domain", names[0], "--domain", names[1]) as started:
        wait_for(started.ready)
        yield started


@pytest.fixture(scope="module")
def loaded(shell: CliShell, names: list[str], worker: Started) -> str:
    """A domain with the events of three accounts."""
    report = shell.json("load", rows(shell.folder, "a", "b", "c"), "--domain", names[0])
    assert report["accepted"] == 12
    return names[0]


def test_topics_create_makes_all_topics_of_all_domains_and_their_routes(
    topics: list[str], names: list[str]
) -> None:
    kinds = {kind.removeprefix("x.") for kind in Topics.of("x", "")} | {"money"}
    assert sorted(topics) == sorted(f"{name}.{kind}" for name in names for kind in kinds)


def test_topics_create_leaves_alone_what_is_there(shell: CliShell, topics: list[str]) -> None:
    assert shell.json("topics", "create") == {"created": [], "differences": []}


def test_topics_create_names_what_differs(
    shell: CliShell, topics: list[str], names: list[str]
) -> None:
    done = shell.given(PARTITIONS="3").run("topics", "create", names[0])
    assert done.returncode == 1
    assert f"topic {names[0]}.events: partitions should be 3 and is 2" in done.stderr


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (("topics", "create"), "KAFKA_BROKERS"),
        (("worker", "append"), "KAFKA_BROKERS"),
        (("events", "DOMAIN", "a"), "MONGO_URL"),
    ],
)
def test_a_server_that_is_absent_is_named_in_time(
    shell: CliShell, names: list[str], command: tuple[str, ...], variable: str
) -> None:
    address = "127.0.0.1:1"
    value = f"mongodb://ann:hunter2@{address}/" if variable == "MONGO_URL" else address
    arguments = [names[0] if part == "DOMAIN" else part for part in command]
    done = shell.given(**{variable: value, "START_TIMEOUT": "0"}).run(*arguments, seconds=15)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"does not answer at {address} (" in line
    assert "Connect" in line
    assert f"start it, or name another in EVENTFLEET_{variable}" in line
    assert "`eventfleet up` needs none" in line


def test_a_worker_without_its_topics_names_them(shell: CliShell, topics: list[str]) -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    (shell.folder / "more.py").write_text(f"import accounts\nmore = accounts.declared({name!r})\n")
    done = shell.given(DOMAINS="more").run("worker", "append")
    assert done.returncode == 1
    assert f"eventfleet: topic {name}.events does not exist\n" in done.stderr
    assert "`eventfleet topics create`" in done.stderr


BROKEN_MODULE = """
import accounts
from dataclasses import replace
from eventfleet import Route

def evolve(account, event):
    if getattr(event, "owner", "") == "Ann":
        raise LookupError("no account for Ann")
    return accounts.evolve(account, event)

broken = replace(accounts.declared({name!r}), evolve=evolve, routes={routes})
"""


def test_what_a_team_gets_wrong_parks_an_aggregate_or_stops_a_role_and_nothing_else(
    shell: CliShell, topics: list[str]
) -> None:
    """An event that can't be folded, and a route whose topic does not exist."""
    name, to = f"t{uuid.uuid4().hex[:12]}", f"t{uuid.uuid4().hex[:12]}"
    module, shell = shell.folder / "broken.py", shell.given(DOMAINS="broken")
    module.write_text(BROKEN_MODULE.format(name=name, routes="[]"))
    assert shell.run("topics", "create").returncode == 0
    module.write_text(BROKEN_MODULE.format(name=name, routes=f"[Route({to!r})]"))
    with shell.started("worker", "append", "snapshot", "relay") as worker:
        assert shell.json("load", rows(shell.folder, "a"), "--domain", name)["accepted"] == 4
        wait_for(lambda: f"relay of {name} is stopped until" in worker.output())
        wait_for(lambda: " parks 'a' at version 1, " in worker.output())
        status, ready = worker.get("/ready")
        assert (status, worker.get("/live")[0]) == (503, 200)
        metrics = worker.get("/metrics")[1]
        ended = worker.end(signal.SIGTERM)
    assert f"relay of {name} is stopped: topic {to} does not exist" in ready
    reason = "LookupError: no account for Ann"
    assert f"parks 1 aggregates, among them 'a' at version 1: {reason}" in ready
    assert ready.count(f"snapshot of {name}, partition") == 1
    for role, count in (("append", 0), ("relay", 2), ("snapshot", 0)):
        line = rf'eventfleet_stopped{{domain="{name}",partition="\d",role="{role}"}} 1\.0'
        assert len(re.findall(line, metrics)) == count, role
    output = worker.output()
    assert f'File "{module}", line 8, in evolve\n' in output
    assert 'raise LookupError("no account for Ann")' in output
    assert "eventfleet/model/domain.py" not in output
    assert ended == 1


def test_offsets_are_set_where_a_group_has_none(shell: CliShell, topics: list[str]) -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    (shell.folder / "offsets.py").write_text(
        f"import accounts\noffsets = accounts.declared({name!r})\n"
    )
    given = shell.given(DOMAINS="offsets")
    assert given.run("topics", "create").returncode == 0
    set_offset = "topics", "set-offset", name, "relay", "earliest"
    done = given.run(*set_offset)
    lines = [f"relay of {name}, partition {number}: offset 0\n" for number in (0, 1)]
    assert (done.returncode, done.stdout) == (0, "".join(lines)), done.stderr
    done = given.run(*set_offset)
    assert done.stdout == f"relay of {name}: each offset is in the log; none was set\n"
    done = given.run("topics", "set-offset", name, "append", "earliest")
    assert (done.returncode, "append" in done.stderr) == (2, True)


def test_a_worker_says_what_it_guarantees_and_where_its_page_is(
    worker: Started, names: list[str]
) -> None:
    assert f"relay of {names[0]} to {names[0]}.money: delivery is exactly once" in (worker.output())
    assert "metrics, liveness and readiness: http://127.0.0.1:" in worker.output()


def test_a_second_load_adds_nothing(shell: CliShell, names: list[str], worker: Started) -> None:
    file = rows(shell.folder, "twice")
    first = shell.json("load", file, "--domain", names[0])
    second = shell.json("load", file, "--domain", names[0])
    assert (first["offered"], first["accepted"], first["repeated"]) == (4, 4, 0)
    assert (second["offered"], second["accepted"], second["repeated"]) == (4, 0, 4)


def test_load_reports_refused_rows_and_loads_the_others(
    shell: CliShell, names: list[str], worker: Started
) -> None:
    path = shell.folder / "bad.csv"
    path.write_text(
        "who,what,when,owner\nbad,Opened,2026-03-01,Ann\n,Opened,2026-03-01,Bob\nx,Nap,2026-03-01,\n"
    )
    columns = ("--case", "who", "--activity", "what", "--time", "when")
    done = shell.run("load", path.name, "--domain", names[0], *columns, "--refused", "refused.csv")
    assert done.returncode == 1
    assert "2 times have no zone and were taken as UTC" in done.stderr
    refused = (shell.folder / "refused.csv").read_text().splitlines()
    assert refused[:2] == ["row,aggregate_id,outcome,reason", "3,,refused,who: is missing"]
    assert refused[2].startswith("4,x,refused,\"type: 'Nap' is not one of ")
    table = [tuple(line.split()) for line in done.stdout.splitlines()]
    assert {("offered", "3"), ("accepted", "1"), ("repeated", "0"), ("refused", "2")} <= set(table)
    assert "bad.csv, line 3: who: is missing" in done.stderr
    assert "bad.csv, line 4: " in done.stderr
    assert shell.json("state", names[0], "bad")["state"] == {"owner": "Ann", "balance": 0}


def test_load_of_a_file_as_a_spreadsheet_of_another_country_writes_it(
    shell: CliShell, names: list[str], worker: Started
) -> None:
    path = shell.folder / "tabelle.csv"
    path.write_bytes("who;what;when;owner\nmüller;Opened;2026-03-01 12:00;Jörg\n".encode("cp1252"))
    columns = ("--case", "who", "--activity", "what", "--time", "when")
    options = ("--encoding", "windows-1252", "--zone", "Europe/Berlin")
    report = shell.json("load", path.name, "--domain", names[0], *columns, *options)
    assert report["accepted"] == 1
    assert shell.json("state", names[0], "müller")["state"] == {"owner": "Jörg", "balance": 0}
    told = shell.run("events", names[0], "müller", "--json").stdout
    assert json.loads(told)["time"] == "2026-03-01T11:00:00Z"
    for wrong in (("--zone", "Berlin"), ("--encoding", "ansi-x"), ("--delimiter", ";;")):
        done = shell.run("load", path.name, "--domain", names[0], *wrong)
        assert (done.returncode, repr(wrong[1]) in done.stderr) == (2, True)


def test_load_of_a_file_that_is_absent(shell: CliShell, names: list[str]) -> None:
    done = shell.run("load", "absent.csv", "--domain", names[0])
    assert (done.returncode, done.stderr) == (1, "eventfleet: absent.csv: there is no such file\n")


def test_events_as_cloud_events_one_a_line(shell: CliShell, loaded: str) -> None:
    done = shell.run("events", loaded, "a", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["version"] for event in events] == [1, 2, 3, 4]
    assert [event["type"] for event in events] == ["Opened", *["Deposited"] * 3]
    assert {(event["specversion"], event["subject"]) for event in events} == {("1.0", "a")}
    assert events[2]["data"] == {"amount": 2}


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        (("--after", "1", "--limit", "2"), [2, 3]),
        (("--types", "Opened,Closed"), [1]),
        (("--types", "Opened", "--types", "Closed"), [1]),
        (("--type", "Opened"), [1]),
        (("--after", "4"), []),
    ],
)
def test_events_by_version_number_and_type(
    shell: CliShell, loaded: str, options: tuple[str, ...], versions: list[int]
) -> None:
    done = shell.run("events", loaded, "b", *options, "--json")
    assert done.returncode == 0
    assert [json.loads(line)["version"] for line in done.stdout.splitlines()] == versions


def test_events_for_people(shell: CliShell, loaded: str) -> None:
    lines = shell.run("events", loaded, "a").stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["2", "2026-03-02T10:00:00.000+00:00", "Deposited", '{"amount":1}']


def test_snapshot(shell: CliShell, loaded: str) -> None:
    def taken() -> bool:
        return shell.run("snapshot", loaded, "c").returncode == 0

    wait_for(taken)
    found = shell.json("snapshot", loaded, "c")
    assert found["aggregate_id"] == "c"
    assert found["state"] == {"owner": "Ann", "balance": {3: 3, 4: 6}[found["version"]]}
    printed = shell.run("snapshot", loaded, "c").stdout
    assert f"{loaded}  c  version {found['version']}  taken {found['taken_at'][:19]}" in printed
    assert '"owner": "Ann"' in printed


def test_state_latest_and_at_a_version(shell: CliShell, loaded: str) -> None:
    assert shell.json("state", loaded, "a") == {
        "aggregate_id": "a",
        "version": 4,
        "state": {"owner": "Ann", "balance": 6},
    }
    earlier = shell.json("state", loaded, "a", "--version", "2")
    assert (earlier["version"], earlier["state"]["balance"]) == (2, 1)


def test_the_latest_state_is_saved_as_a_snapshot(shell: CliShell, loaded: str) -> None:
    shell.json("state", loaded, "b")
    assert shell.json("snapshot", loaded, "b")["version"] == 4


def test_state_past_the_last_version(shell: CliShell, loaded: str) -> None:
    done = shell.run("state", loaded, "a", "--version", "9")
    assert (done.returncode, done.stderr) == (1, f"eventfleet: {loaded} 'a' has no version 9 yet\n")


@pytest.mark.parametrize("query", ["events", "snapshot", "state"])
def test_an_unknown_aggregate(shell: CliShell, loaded: str, query: str) -> None:
    done = shell.run(query, loaded, "nobody", "--json")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", f"eventfleet: {loaded} has no aggregate 'nobody'\n")


def test_audit_counts_and_is_clean(shell: CliShell, loaded: str) -> None:
    report = shell.json("audit", loaded)
    assert (report["domain"], report["clean"], report["violations"]) == (loaded, True, [])
    assert report["stored"] >= 12
    assert report["oldest"][f"{loaded}.events"] == {"0": 0, "1": 0}
    done = shell.run("audit", loaded)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].strip() == "clean"


def test_audit_names_the_aggregate_and_ends_with_status_1(
    shell: CliShell, names: list[str], worker: Started, mongo_url: str
) -> None:
    spoilt = names[1]
    shell.json("load", rows(shell.folder, "kept", "robbed"), "--domain", spoilt)
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        events = client[names[0]][f"{spoilt}.events"]
        assert events.delete_one({"aggregate_id": "robbed", "version": 2}).deleted_count == 1
    done = shell.run("audit", spoilt)
    assert done.returncode == 1
    faults = [line for line in done.stdout.splitlines() if line.startswith("  invariant ")]
    assert any(line.startswith("  invariant 2, robbed: version 2 is missing") for line in faults)
    assert not any(", kept: " in line for line in faults)


def test_ctrl_c_ends_a_command_quietly(
    shell: CliShell, names: list[str], topics: list[str], kafka: str
) -> None:
    file = rows(shell.folder, "alone")
    with shell.started("load", file, "--domain", names[2]) as started:
        wait_for(lambda: asyncio.run(records(kafka, f"{names[2]}.events")) == 4)
        assert started.end(signal.SIGINT) == 130
        assert started.output() == ""


async def records(kafka: str, topic: str) -> int:
    reader = Reader(Connection(kafka))
    try:
        return sum(limit.end for limit in (await reader.watermarks(topic)).values())
    finally:
        await reader.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_stop_leaves_with_status_0(
    shell: CliShell, names: list[str], topics: list[str], number: signal.Signals
) -> None:
    with shell.started("worker", "relay", "--domain", names[2]) as started:
        wait_for(started.ready)
        assert started.end(number) == 0
        assert "Traceback" not in started.output()


def test_topics_raise_epoch_says_the_new_one(shell: CliShell, names: list[str]) -> None:
    of_nobody = {"MONGO_DATABASE": f"{names[0]}_epochs", "GROUP_PREFIX": f"{names[0]}epochs"}
    elsewhere = shell.given(**of_nobody)
    for epoch in (1, 2):
        done = elsewhere.run("topics", "raise-epoch", names[0])
        assert (done.returncode, done.stdout) == (0, f"{names[0]}: epoch {epoch}\n")
