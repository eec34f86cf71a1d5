"""`make run` and `eventfleet up` as a newcomer meets them: whole processes, each on a file."""

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
from urllib.error import HTTPError
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


PLACE = '{"customer": "ann", "total": 1999, "currency": "EUR"}'


class Newcomer:
    """Runs the command with folders of its own for the data and for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.temp, self.data = folder / "temp", folder / "data"
        self.temp.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")}
        for name in ("LOG", "DOMAIN", "ONCE", "SUMMARY", "PORT"):
            inherited.pop(name, None)
        self.environment = {
            **inherited,
            "TMPDIR": str(self.temp),
            "EVENTFLEET_DATA": str(self.data),
        }

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


def test_a_second_terminal_uses_the_fleet_over_http_as_is_printed(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    log = tmp_path / "small.csv"
    log.write_text(SMALL)
    with newcomer.started("run", LOG=str(log)) as (process, said):
        assert re.search(r"stored +4\b", said)
        environment = re.findall(r"^  ((?:cd|export) .*)$", said, re.MULTILINE)
        (health,) = re.findall(r"^  (\S.*eventfleet'? health)$", said, re.MULTILINE)
        events = health.replace(" health", " events process_log a")
        second = subprocess.run(
            ["sh", "-ec", "\n".join([*environment, health, events])],
            env=newcomer.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert second.returncode == 0, second.stderr
        assert re.search(r"^ok +file ", second.stdout, re.MULTILINE)
        assert re.search(r"^ok +HTTP service ", second.stdout, re.MULTILINE)
        assert len(re.findall("close", second.stdout)) == 2
        named = {"EVENTFLEET_DOMAINS": "eventfleet.domains.process_log"}
        loading = newcomer.run("load", str(log), "--domain", "process_log", **named)
        assert loading.returncode == 1
        assert f"is in use by process {process.pid}" in loading.stderr
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
        assert f"Its data is kept in {newcomer.data}." in said
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
        other = {"EVENTFLEET_DATA": f"{newcomer.data}-2", "EVENTFLEET_METRICS_PORT": "0"}
        with newcomer.started("up", "orders", **other) as (_, said):
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
        [log] = re.findall(r"^  the fleet: (/.+)$", said, re.MULTILINE)
        assert not re.findall("^.* (?:WARNING|ERROR) .*$", Path(log).read_text(), re.MULTILINE)
        process.send_signal(end)
        status = process.wait(60)
    assert status == (-signal.SIGKILL if end == signal.SIGKILL else 0)
    wait_for(lambda: not newcomer.processes() and not os.listdir(newcomer.temp))


def test_what_was_accepted_is_kept_when_the_fleet_is_killed(newcomer: Newcomer) -> None:
    for number in range(1, 4):
        with newcomer.started("up", "orders") as (process, said):
            url = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[0]
            sent = newcomer.run(
                *("send", "orders", f"order-{number}", "Place", PLACE), EVENTFLEET_SERVICE_URL=url
            )
            assert sent.returncode == 0, sent.stderr
            process.kill()
    with newcomer.started("up", "orders") as (_, said):
        url = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[0]
        for number in range(1, 4):
            state = newcomer.run(
                "state", "orders", f"order-{number}", "--json", EVENTFLEET_SERVICE_URL=url
            )
            assert json.loads(state.stdout)["state"]["status"] == "placed", state.stderr


def test_serve_on_a_file_runs_the_roles(newcomer: Newcomer, tmp_path: Path) -> None:
    told, settings = tmp_path / "url", {"EVENTFLEET_DOMAINS": "eventfleet.domains.orders"}
    with subprocess.Popen(
        [sys.executable, "-m", "eventfleet.cli", "serve", "--or-any", "--url-file", str(told)],
        env=newcomer.environment | settings | {"EVENTFLEET_METRICS_PORT": "0"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
            url = told.read_text().strip()
            send = "send", "orders", "my-order", "Place", PLACE, "--wait", "projected"
            sent = newcomer.run(*send, EVENTFLEET_SERVICE_URL=url)
            assert sent.stdout.rstrip().endswith("projected"), sent.stdout + sent.stderr
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=60)
            assert process.returncode == 0, rest
            assert "Traceback" not in rest
        finally:
            process.kill()


def test_a_backup_of_a_running_fleet_is_a_fleet(newcomer: Newcomer, tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    copy = tmp_path / "restored" / "fleet.sqlite"
    with newcomer.started("up", "orders") as (_, said):
        url = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[0]
        send = "send", "orders", "my-order", "Place", PLACE
        assert newcomer.run(*send, EVENTFLEET_SERVICE_URL=url).returncode == 0
        done = newcomer.run("backup", str(copy))
        assert done.returncode == 0, done.stderr
        assert f"{copy.stat().st_size:,} bytes per event" in done.stdout  # there is one
        again = newcomer.run("backup", str(copy))
        assert again.returncode == 1
        assert "is there already: name a new file" in again.stderr
        restored = {"EVENTFLEET_DATA": str(copy.parent), "EVENTFLEET_METRICS_PORT": "0"}
        with newcomer.started("up", "orders", **restored) as (_, said):
            url = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[0]
            state = newcomer.run("state", "orders", "my-order", EVENTFLEET_SERVICE_URL=url)
            assert '"status": "placed"' in state.stdout


def test_servers_have_no_file_to_copy(newcomer: Newcomer, tmp_path: Path) -> None:
    del newcomer.environment["EVENTFLEET_DATA"]
    done = newcomer.run("backup", str(tmp_path / "copy"), EVENTFLEET_KAFKA_BROKERS="here:1")
    assert done.returncode == 2
    assert "docs/guides/back-up-and-restore.md" in done.stderr


def test_a_second_fleet_on_the_same_data_is_refused(newcomer: Newcomer) -> None:
    with newcomer.started("up", "orders") as (process, _):
        done = newcomer.run("up", "orders")
        assert done.returncode == 1
        assert f"is in use by process {process.pid}: stop it first" in done.stderr
        assert "Traceback" not in done.stderr


def test_temporary_data_is_removed(newcomer: Newcomer) -> None:
    done = newcomer.run("run", "--temporary", ONCE="1")
    assert done.returncode == 0, done.stderr
    assert not newcomer.data.exists()
    newcomer.nothing_is_left()


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


def test_a_run_ends_where_a_view_raises_on_too_much_and_the_next_up_tells(
    newcomer: Newcomer, tmp_path: Path, brittle: dict[str, str]
) -> None:
    log = brittle.pop("LOG")
    with newcomer.started("up", **brittle) as (process, said):
        wait_for(lambda: is_built(said))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    done = newcomer.run("run", "--domain", "brittle", **brittle, LOG=log, ONCE="1")
    assert done.returncode == 1
    assert "is stopped: project can't go on: it parks 1 aggregates of this partition" in done.stderr
    assert f'File "{tmp_path}/brittle.py", line ' in done.stderr
    assert 'raise LookupError("no account for Ann")' in done.stderr
    with newcomer.started("up", **brittle) as (process, said):
        assert process.stdout
        seen = [said]
        for line in process.stdout:
            seen.append(line)
            if line.startswith("eventfleet: ") and " is stopped: " in line:
                break
        assert f'File "{tmp_path}/brittle.py", line ' in "".join(seen)
        assert "project of brittle, partition " in seen[-1]
        served = re.search(r"http://127\.0\.0\.1:\d+/domains", said)
        assert served, said
        with urlopen(served[0], timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "eventfleet: project of brittle, partition " in rest
    newcomer.nothing_is_left()


def is_built(said: str) -> bool:
    """Whether queries find the view's first build."""
    [url] = re.findall(r"(http://127\.0\.0\.1:\d+)/domains", said)[:1]
    with suppress(HTTPError), urlopen(f"{url}/views/brittle/accounts", timeout=60) as answer:
        return bool(answer.status == 200)
    return False


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
