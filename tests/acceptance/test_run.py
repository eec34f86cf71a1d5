"""`make run` and `eventfleet up` as a newcomer meets them: whole processes, embedded servers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from eventfleet.cli.sample_orders import sample_orders
from tests.acceptance.printed_rows import MODULE, rows
from tests.order_oracle import judge

ROOT = Path(__file__).parents[2]
RECEIPT = ROOT.parent / "shared" / "data" / "receipt.csv.gz"
GUIDE = (ROOT / "docs" / "guides" / "http.md").read_text()
SHOWN, _ = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
KEYS = {
    *("domain", "commands", "accepted", "rejected", "repeated", "stored", "aggregates"),
    *("snapshots", "relayed", "dead_letters", "violations", "seconds"),
}
LIMIT = 300.0
SMALL = """case:concept:name,concept:name,time:timestamp,cost
a,open,2026-01-01T10:00:00Z,1
b,open,2026-01-01T10:01:00Z,2
a,close,2026-01-01T10:02:00Z,3
a,close,2026-01-01T10:02:00Z,3
"""


class Newcomer:
    """Runs the command in a folder of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.temp = folder / "temp"
        self.temp.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")}
        for name in ("LOG", "DOMAIN", "ONCE", "SUMMARY", "PORT"):
            inherited.pop(name, None)
        self.environment = {**inherited, "TMPDIR": str(self.temp)}

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "eventfleet.cli", *command],
            env=self.environment | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    @contextmanager
    def started(self, *command: str, **variables: str) -> "Iterator[tuple[Process, str]]":
        """A process that stays, and what it said until it was up."""
        with subprocess.Popen(
            [sys.executable, "-m", "eventfleet.cli", *command],
            env=self.environment | variables,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process, self._said(process)
            finally:
                process.kill()

    def _said(self, process: "Process") -> str:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C ends the fleet" in line:
                break
        assert process.poll() is None, "".join(lines)
        return "".join(lines)

    def nothing_is_left(self) -> None:
        assert os.listdir(self.temp) == []
        assert self.processes() == []

    def processes(self) -> list[str]:
        """Living processes that name the temporary folder, or have it in their environment."""
        needle, found = str(self.temp).encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if needle in told:
                found.append(str(entry))
        return found


Process = subprocess.Popen[str]


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_sample_goes_through_and_the_audit_is_clean(newcomer: Newcomer, tmp_path: Path) -> None:
    done = newcomer.run("run", ONCE="1", SUMMARY=str(tmp_path / "s.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    commands = [ready.event for ready in sample_orders()]
    judged = judge(commands)
    types = judged.types
    summary = json.loads((tmp_path / "s.json").read_bytes())
    assert summary.keys() == KEYS
    assert summary["domain"] == "orders"
    assert summary["commands"] == len(commands)
    assert summary["stored"] == types.total()
    assert summary["rejected"] == judged.rejected.total()
    # An answer that a worker lost with its partition is given again, as Repeated.
    assert summary["accepted"] + summary["repeated"] == types.total() + judged.repeated
    assert summary["accepted"] > types.total() / 2
    assert summary["aggregates"] == len(judged.latest)
    assert summary["relayed"] == types["Packed"] + types["Paid"] + types["Returned"]
    # Those that ended have a snapshot; the others as time goes by.
    assert types["Delivered"] + types["Cancelled"] <= summary["snapshots"] <= summary["aggregates"]
    assert summary["dead_letters"] == summary["violations"] == 0
    late = judged.rejected["Pay after Cancelled"]
    assert re.search(rf"Paid may follow Placed, not Cancelled +{late}\b", done.stdout)
    assert re.search(rf"rejected +{judged.rejected.total()}\b", done.stdout)
    assert summary["seconds"] > 0
    assert "audit: clean" in done.stdout
    newcomer.nothing_is_left()


@pytest.mark.skipif(not RECEIPT.exists(), reason=f"there is no {RECEIPT.name}")
def test_a_real_log_goes_through_and_the_audit_is_clean(newcomer: Newcomer, tmp_path: Path) -> None:
    done = newcomer.run("run", ONCE="1", LOG=str(RECEIPT), SUMMARY=str(tmp_path / "s.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "s.json").read_bytes())
    assert summary.pop("seconds") > 0
    assert summary == {
        "domain": "process_log",
        "commands": 8577,
        "accepted": 8577,
        "rejected": 0,
        "repeated": 0,
        "stored": 8577,
        "aggregates": 1434,
        "snapshots": 1298,
        "relayed": 8577,
        "dead_letters": 0,
        "violations": 0,
    }
    newcomer.nothing_is_left()


def test_a_second_terminal_loads_with_the_printed_command(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    log = tmp_path / "small.csv"
    log.write_text(SMALL)
    with newcomer.started("run", LOG=str(log)) as (process, said):
        assert re.search(r"stored +4\b", said)
        environment = re.findall(r"^  ((?:cd|export) .*)$", said, re.MULTILINE)
        examples = re.findall(r"^  (\S.*eventfleet'? (?:load|health).*)$", said, re.MULTILINE)
        assert len(examples) == 2, said
        second = subprocess.run(
            ["sh", "-ec", "\n".join([*environment, *examples]).replace("FILE", str(log))],
            env=newcomer.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert second.returncode == 0, second.stderr
        assert re.search(r"accepted +0\b", second.stdout)
        assert re.search(r"repeated +4\b", second.stdout)
        assert re.search(r"^ok +Kafka ", second.stdout, re.MULTILINE)
        assert re.search(r"^ok +topics ", second.stdout, re.MULTILINE)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    newcomer.nothing_is_left()


def test_rows_that_are_no_events_are_counted_as_dead_letters(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    log = tmp_path / "bad.csv"
    log.write_text(SMALL + ",open,2026-01-01T10:03:00Z,5\nc,open,yesterday,6\n")
    done = newcomer.run("run", ONCE="1", LOG=str(log), SUMMARY=str(tmp_path / "s.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "s.json").read_bytes())
    assert (summary["commands"], summary["accepted"], summary["dead_letters"]) == (6, 4, 2)
    assert "line 6" in done.stdout
    assert "line 7" in done.stdout


@pytest.mark.parametrize("asked", [True, False], ids=["with PORT", "without"])
def test_the_fleet_is_served_over_http_at_the_printed_address(
    newcomer: Newcomer, asked: bool
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with newcomer.started("up", "orders", **({"PORT": str(port)} if asked else {})) as (_, said):
        assert "EVENTFLEET_DOMAINS is not set: running the sample domains" in said
        assert "Nothing is kept between starts" in said
        sent = re.search(r"^  (\S.*eventfleet'? send orders .*)$", said, re.MULTILINE)
        assert sent, said
        environment = re.findall(r"^  ((?:cd|export) .*)$", said, re.MULTILINE)
        done = subprocess.run(
            ["sh", "-ec", "\n".join([*environment, sent[1]])],
            env=newcomer.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("accepted: event "), done.stdout + done.stderr
        printed = re.search(r"http://127\.0\.0\.1:(\d+)/domains", said)
        assert printed, said
        assert int(printed[1]) == port or not asked
        with urlopen(printed[0], timeout=60) as answer:
            (told,) = json.load(answer)["domains"]
        assert told["name"] == "orders"
        if asked and shutil.which("curl"):
            lines = SHOWN.replace("http://127.0.0.1:8080", printed[0].removesuffix("/domains"))
            done = subprocess.run(["sh", "-ec", lines], capture_output=True, text=True, timeout=60)
            assert '"stage":"appended"' in done.stdout, done.stdout + done.stderr
            assert '"status":"placed"' in done.stdout
            assert done.stdout.count('"type":"Placed"') == 1


def test_make_run_serves_the_chat_with_its_rooms(newcomer: Newcomer) -> None:
    makefile = (ROOT / "Makefile").read_text()
    exported = dict(re.findall(r"^run: export (\w+) \?= (.*)$", makefile, re.MULTILINE))
    [samples] = re.findall(r"^SAMPLE_DOMAINS := (.*)$", makefile, re.MULTILINE)
    exported["EVENTFLEET_DOMAINS"] = samples
    with newcomer.started("up", "chat", **exported) as (_, said):
        [url] = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[:1]
        with urlopen(f"{url}/rooms/lobby/messages", timeout=60) as answer:
            assert json.load(answer) == {"room_id": "lobby", "messages": []}
        with connect(f"{url.replace('http', 'ws')}/rooms/lobby/socket?sender=ann") as ann:
            assert json.loads(ann.recv(60))["room_id"] == "lobby"


def test_a_port_that_is_taken_is_told(newcomer: Newcomer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = newcomer.run("up", "orders", PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "the HTTP service ended with status 1" in done.stderr
    assert "set EVENTFLEET_HTTP_PORT to another port" in done.stderr
    assert "Traceback" not in done.stderr
    newcomer.nothing_is_left()


def test_two_fleets_are_served_at_different_ports(newcomer: Newcomer) -> None:
    addresses = []
    with newcomer.started("up", "orders") as (_, said), socket.socket() as usual:
        addresses += re.findall(r"http://\S+/domains", said)
        with suppress(OSError):
            usual.bind(("127.0.0.1", 8080))
            usual.listen()
        with newcomer.started("up", "orders", EVENTFLEET_METRICS_PORT="0") as (_, said):
            addresses += re.findall(r"http://\S+/domains", said)
            assert len({*addresses}) == 2
            for address in addresses:
                with urlopen(address, timeout=60) as answer:
                    assert answer.status == 200


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_leaves_nothing_however_it_ends(newcomer: Newcomer, end: signal.Signals) -> None:
    with newcomer.started("up") as (process, said):
        assert "orders" in said
        assert "process_log" in said
        for log in re.findall(
            r"^  the (?:worker process|HTTP service): (/.+)$", said, re.MULTILINE
        ):
            assert not re.findall("^.* (?:WARNING|ERROR) .*$", Path(log).read_text(), re.MULTILINE)
        process.send_signal(end)
        status = process.wait(60)
    assert status == (-signal.SIGKILL if end == signal.SIGKILL else 0)
    wait_for(lambda: not newcomer.processes() and not os.listdir(newcomer.temp))


def test_when_the_workers_die_the_fleet_ends_and_says_so(newcomer: Newcomer) -> None:
    with newcomer.started("up", "orders") as (process, _):
        workers = [
            entry.parent
            for entry in Path("/proc").glob("[0-9]*/cmdline")
            if is_worker_of(newcomer, entry.parent)
        ]
        assert len(workers) == 1
        os.kill(int(workers[0].name), signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "the worker process ended with status -9" in rest
    assert "Traceback" not in rest
    newcomer.nothing_is_left()


def is_worker_of(newcomer: Newcomer, process: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        ours = str(newcomer.temp).encode() in (process / "environ").read_bytes()
    except OSError:
        return False
    return ours and b"worker" in command and b"-I" not in command


BRITTLE = f"""
{MODULE}
from dataclasses import replace as with_changes

from eventfleet import Row, View


class AccountRow(Row):
    owner: str = ""


def brittle_project(row, event):
    if getattr(event.data, "owner", "") == "Ann":
        raise LookupError("no account for Ann")
    return row


accounts = View("accounts", row=AccountRow, project=brittle_project)
brittle = with_changes(declared("brittle"), views=[accounts])
"""


@pytest.fixture
def brittle(newcomer: Newcomer, tmp_path: Path) -> dict[str, str]:
    """Variables for a domain whose view raises on an event of each aggregate of a log, that log,
    and a limit that more than one parked aggregate of a partition is beyond."""
    (tmp_path / "brittle.py").write_text(BRITTLE)
    log = tmp_path / rows(tmp_path, *"abcdefghijkl")
    return {
        "EVENTFLEET_DOMAINS": "brittle",
        "EVENTFLEET_PARKED_AGGREGATES": "1",
        "PYTHONPATH": python_path(tmp_path),
        "LOG": str(log),
    }


def python_path(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def test_a_run_ends_where_a_view_raises_on_too_much_and_shows_the_teams_line(
    newcomer: Newcomer, tmp_path: Path, brittle: dict[str, str]
) -> None:
    done = newcomer.run("run", "--domain", "brittle", **brittle, ONCE="1")
    assert done.returncode == 1
    # It stops a partition, or holds the view's first build where the log came before that was live.
    assert "version 1 would be another: LookupError: no account for Ann" in done.stderr
    assert f'File "{tmp_path}/brittle.py", line ' in done.stderr
    assert 'raise LookupError("no account for Ann")' in done.stderr
    newcomer.nothing_is_left()


def test_a_fleet_stays_up_with_a_stopped_partition_and_tells(
    newcomer: Newcomer, tmp_path: Path, brittle: dict[str, str]
) -> None:
    log = brittle.pop("LOG")
    with newcomer.started("up", **brittle) as (process, said):
        environment = re.findall(r"^  ((?:cd|export) .*)$", said, re.MULTILINE)
        (load,) = re.findall(r"^  (\S.*eventfleet'? load .*)$", said, re.MULTILINE)
        loaded = subprocess.run(
            ["sh", "-ec", "\n".join([*environment, load.replace("FILE", log)])],
            env=newcomer.environment | brittle,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert loaded.returncode == 0, loaded.stderr
        assert process.stdout
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("eventfleet: ") and " is stopped: " in line:
                break
        assert f'File "{tmp_path}/brittle.py", line ' in "".join(seen)
        fault = seen[-1]
        assert "project of brittle, partition " in fault
        served = re.search(r"http://127\.0\.0\.1:\d+/domains", said)
        assert served, said
        with urlopen(served[0], timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "eventfleet: project of brittle, partition " in rest
    newcomer.nothing_is_left()


def test_a_summary_that_cant_be_written_is_told_before_the_work(newcomer: Newcomer) -> None:
    done = newcomer.run("run", ONCE="1", SUMMARY="/nowhere/s.json")
    assert done.returncode == 2
    assert "/nowhere/s.json" in done.stderr
    assert "Traceback" not in done.stderr
    newcomer.nothing_is_left()


def test_a_file_that_is_not_there_is_named_and_nothing_starts(newcomer: Newcomer) -> None:
    done = newcomer.run("run", ONCE="1", LOG="nowhere.csv")
    assert done.returncode == 1
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stderr
    newcomer.nothing_is_left()
