"""The guide to backups: its commands, as they stand, while commands go on."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.terminal import Terminal
from tests.servers.server import free_port

GUIDE = (ROOT / "docs" / "guides" / "back-up-and-restore.md").read_text()
COPY, COPY_IN_PARTS, RESTORE_STORE, RESTORE_ALL, COPY_FILE, RESTORE_FILE = re.findall(
    r"```sh\n(.*?)```", GUIDE, re.DOTALL
)
[TOPIC_COPY] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
APPENDED = "Accepted appended\n"
ROLES = "append snapshot relay project"
TILLS = 5
Outcomes = dict[int, str]
"""By the number of a command."""
MODULE = """
from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Route, Row, State, View, every


class Filled(Event):
    cents: int


class Fill(Command):
    cents: int


class Till(State):
    cents: int = 0


class TillRow(Row):
    cents: int = 0


def evolve(till, event):
    return replace(till, cents=till.cents + event.cents)


def decide(till, command):
    return Filled(cents=command.cents)


def project(row, event):
    return TillRow(cents=(row.cents if row else 0) + event.data.cents)


by_event = {"commands": [Emits(Fill, Filled, after={START, Filled})]}
by_state = {"commands": [Fill], "decide": decide}
tills = Domain(
    "tills",
    state=Till,
    evolve=evolve,
    events=[Filled],
    snapshot=every(5),
    routes=[Route("tills.out")],
    views=[View("sums", row=TillRow, project=project)],
    **MODE,
)
"""
SEND = f"""
import asyncio
import os
import sys
from contextlib import nullcontext

from eventfleet.commands import Stage, event_service, load_settings
from eventfleet.fleet import running_roles
from eventfleet.stores.kafka.producer import Producer
from tills import Fill, tills


async def send(service, number):
    till, once = f"t-{{number % {TILLS}}}", f"command-{{number}}"
    sent = await service.send(till, Fill(cents=1), command_id=once, wait=Stage(os.environ["STAGE"]))
    print(number, type(sent.outcome).__name__, sent.stage, flush=True)


async def main(first, end):
    settings = load_settings()
    roles = running_roles(settings, [tills]) if settings.data else nullcontext()
    async with roles, event_service(settings, tills) as service:
        if end:
            await asyncio.gather(*(send(service, number) for number in range(first, end)))
        while not (end or os.path.exists("stop")):
            await send(service, first := first + 1)
        if "DIES_BEFORE_IT_PRODUCES" in os.environ:
            os._exit(0)


if "DIES_BEFORE_IT_PRODUCES" in os.environ:
    Producer.produce = lambda self, records: asyncio.Event().wait()
asyncio.run(main(*map(int, sys.argv[1:])))
"""
FLUSH = "import sys, redis; redis.Redis.from_url(sys.argv[2]).flushdb()"
WORDS = {
    "start-workers": f"""
        setsid eventfleet worker {ROLES} >> worker.log 2>&1 < /dev/null &
        echo $! > worker.pid
    """,
    "stop-workers": """
        kill $(cat worker.pid) || exit 0
        while grep -q . "/proc/$(cat worker.pid)/cmdline" 2> /dev/null; do sleep 0.1; done
    """,
    "mongodump": 'exec "$PYTHON" -m tests.acceptance.mongo_by_hand dump "$@"',
    "mongorestore": 'exec "$PYTHON" -m tests.acceptance.mongo_by_hand restore "$@"',
    "redis-cli": f'exec "$PYTHON" -c {shlex.quote(FLUSH)} "$@"',
    "python": 'exec "$PYTHON" "$@"',
}


class Operator(Terminal):
    """An operator's terminal, with the page's words on the path."""

    def __init__(self, folder: Path, mode: str, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        bin = self.folder / "bin"
        bin.mkdir()
        for word, script in WORDS.items():
            (bin / word).write_text(f"#!/bin/bash\n{script}")
            (bin / word).chmod(0o755)
        (self.folder / "tills.py").write_text(MODULE.replace("MODE", mode))
        (self.folder / "send.py").write_text(SEND)
        (self.folder / "topic_copy.py").write_text(TOPIC_COPY)
        port = str(free_port())
        self.environment |= {
            "PYTHONPATH": str(ROOT),
            **environment,
            "PATH": os.pathsep.join([str(bin), sysconfig.get_path("scripts"), os.environ["PATH"]]),
            "EVENTFLEET_METRICS_PORT": port,
            "DOMAIN": "tills",
            "VIEW": "sums",
            "WORKER": f"http://127.0.0.1:{port}",
        }

    def follow(self, commands: str) -> str:
        return self.run(f"set -e\n{commands}")

    def send(self, first: int, end: int, stage: str = "accepted", **variables: str) -> Outcomes:
        """Send the commands of these numbers; the outcome of each."""
        environment = " ".join(f"{k}={v}" for k, v in {"STAGE": stage, **variables}.items())
        return _outcomes(self.run(f'{environment} "$PYTHON" send.py {first} {end}'))

    @contextmanager
    def sending(self) -> Iterator[Path]:
        """Send commands for the length of the block, one after the other, each until it is
        appended; yields the file of their outcomes."""
        answers, stop = self.folder / "answers", self.folder / "stop"
        environment = self.environment | {"STAGE": "appended"}
        with answers.open("w") as output:
            command = [sys.executable, "send.py", "0", "0"]
            sender = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=output)
        try:
            yield answers
            stop.touch()
            assert sender.wait(TIMEOUT_SECONDS) == 0
        finally:
            sender.kill()
            sender.wait(TIMEOUT_SECONDS)


class FleetOperator(Operator):
    """An operator beside a fleet."""

    def __init__(self, fleet: CommandFleet, mode: str) -> None:
        super().__init__(fleet.folder, mode, fleet.environment)
        self.fleet = fleet

    def stored(self) -> int:
        return self.fleet.events.count_documents({})

    def copied(self) -> int:
        """The number of events in the copy."""
        copy = self.folder / "copy" / self.fleet.prefix / "tills.events.json"
        return len(json.loads(copy.read_text()))


def _outcomes(text: str) -> Outcomes:
    lines = [line.split() for line in text.splitlines()]
    return {int(number): outcome for number, outcome, stage in lines}


def until_appended(answers: Path, count: int) -> Outcomes:
    """Wait until so many more commands are appended; all that are by then."""
    wanted = answers.read_text().count(APPENDED) + count
    wait_for(lambda: answers.read_text().count(APPENDED) >= wanted, "commands")
    return _outcomes(answers.read_text())


@pytest.fixture
def operator(
    request: pytest.FixtureRequest, kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> Iterator[FleetOperator]:
    fleet = CommandFleet((kafka, mongo_url, redis_url), tmp_path, "tills", PARTITIONS="2")
    operator = FleetOperator(fleet, request.param)
    with fleet:
        operator.follow("start-workers")
        try:
            operator.follow('until curl -sf "$WORKER/ready"; do sleep 0.1; done')
            yield operator
        finally:
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / "worker.pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("operator", ["by_state"], indirect=True)
def test_a_lost_store_comes_back_but_for_puts_that_no_log_has(operator: FleetOperator) -> None:
    with operator.sending() as answers:
        until_appended(answers, 20)
        operator.follow(COPY_IN_PARTS)
        until_appended(answers, 20)
    accepted = _outcomes(answers.read_text())
    operator.follow("stop-workers")
    end = max(accepted) + 1
    waiting = operator.send(end, end + 5)
    put = operator.send(end + 5, end + 7, DIES_BEFORE_IT_PRODUCES="1")
    assert {*waiting.values()} == {*put.values()} == {"Accepted"}

    operator.fleet.database.client.drop_database(operator.fleet.database)
    operator.follow(RESTORE_STORE)

    assert operator.copied() < operator.stored() == len(accepted | waiting)
    again = operator.send(1, end + 7, "appended")
    assert {again[number] for number in accepted | waiting} == {"Repeated"}
    assert {again[number] for number in put} == {"Accepted"}
    operator.follow("eventfleet audit tills")


@pytest.mark.parametrize("operator", ["by_event"], indirect=True)
def test_of_two_lost_servers_all_comes_back_that_was_stored_before_the_copy(
    operator: FleetOperator,
) -> None:
    with operator.sending() as answers:
        before = until_appended(answers, 20)
        operator.follow(COPY)
        until_appended(answers, 20)
    accepted = _outcomes(answers.read_text())
    operator.follow("stop-workers")
    end = max(accepted) + 1
    waiting = operator.send(end, end + 5)
    assert {*waiting.values()} == {"Accepted"}

    operator.fleet.database.client.drop_database(operator.fleet.database)
    operator.fleet.kafka.delete(t for t in operator.fleet.kafka.topics() if t.startswith("tills."))
    operator.follow(RESTORE_ALL)

    assert len(before) <= operator.stored() == operator.copied() < len(accepted)
    again = operator.send(1, end + 5, "appended")
    assert {again[number] for number in before} == {"Repeated"}
    lost = [number for number in accepted | waiting if again[number] == "Accepted"]
    assert lost == [*range(operator.copied() + 1, end + 5)]
    operator.follow("eventfleet audit tills")


def test_a_fleet_in_one_file_goes_on_from_its_copy(tmp_path: Path) -> None:
    data = {"EVENTFLEET_DATA": str(tmp_path / "data"), "EVENTFLEET_DOMAINS": "tills"}
    operator = Operator(tmp_path, "by_event", data)
    with operator.sending() as answers:
        before = until_appended(answers, 20)
        operator.follow(COPY_FILE)
        until_appended(answers, 20)
    accepted = _outcomes(answers.read_text())
    operator.follow(RESTORE_FILE)

    again = operator.send(1, max(accepted) + 1, "appended")
    assert {again[number] for number in before} == {"Repeated"}
    assert {again[number] for number in accepted} == {"Repeated", "Accepted"}
    operator.follow("eventfleet audit tills")
