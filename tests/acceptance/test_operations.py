"""The page for operators: each section's commands, as they stand, on what they are for."""

import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS, Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.conftest import running
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.server import free_port

PAGE = (ROOT / "docs" / "operations.md").read_text()
HEADER = "case:concept:name,concept:name,time:timestamp,text\n"
OUT_OF_DISK_SPACE = 14031
PARTITIONS = 2
GROUPS = ("append", "snapshot", "relay")

MODULE = """
from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State, every


class Noted(Event):
    text: str


class Notes(State):
    texts: tuple[str, ...] = ()


def evolve(notes: Notes, event: Noted) -> Notes:
    return replace(notes, texts=(*notes.texts, event.text))


notes = Domain(
    "notes",
    state=Notes,
    evolve=evolve,
    events=[Noted],
    snapshot=every(2),
    routes=[Route("notes.out")],
)
"""
RAISING = MODULE.replace("*notes.texts, event.text", "*notes.texts, str(int(event.text))")
UNREADABLE = MODULE.replace("    text: str\n", "    text: str\n    author: str\n")
UPCASTERS = 'upcasters={Noted: [lambda data: data | {"author": ""}]}'
CHANGED = UNREADABLE.replace("events=[Noted]", f"events=[Noted], {UPCASTERS}")

WORDS = {
    "start-workers": """
        setsid eventfleet worker append snapshot relay >> worker.log 2>&1 < /dev/null &
        echo $! > worker.pid
    """,
    "stop-workers": """
        pid=$(cat worker.pid)
        kill "$pid" || exit 0
        while grep -q . "/proc/$pid/cmdline" 2> /dev/null; do sleep 0.1; done
    """,
    "restart-workers": "stop-workers && start-workers",
}
"""The page's words for what each house does in its own way."""


def blocks(section: str) -> list[str]:
    """The commands of a section, block by block."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


class Operator:
    """Runs commands beside a fleet of one worker, with the words of the page on the path."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.folder = fleet, fleet.folder
        port = free_port()
        for word, script in WORDS.items():
            file = self.folder / "bin" / word
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/bash\n{script}")
            file.chmod(0o755)
        paths = [str(self.folder / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]]
        fleet.environment |= {
            "PATH": os.pathsep.join(paths),
            "PYTHONPATH": str(ROOT / "tests" / "acceptance" / "hasty"),
            "EVENTFLEET_METRICS_PORT": str(port),
            "EVENTFLEET_KAFKA_METADATA_AGE": "1",
            "DOMAIN": fleet.domain,
            "WORKER": f"http://127.0.0.1:{port}",
        }

    def run(self, lines: str, status: int = 0, **variables: str) -> str:
        """The output of commands, up to the first that fails; its status, or 0."""
        done = subprocess.run(
            ["bash", "-ec", lines],
            cwd=self.folder,
            env=self.fleet.environment | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == status, done.stdout + done.stderr + self.log()
        return done.stdout

    def deploy(self, module: str) -> None:
        """Put code in the place of the code before."""
        (self.folder / "notes.py").write_text(module)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def ready(self) -> str:
        """The worker's page of readiness; empty where it does not answer."""
        return self.run('curl -s "$WORKER/ready" || true')

    def has_ended(self) -> bool:
        return self.run('cat "/proc/$(cat worker.pid)/cmdline" 2> /dev/null || true') == ""

    def until_told(self, text: str) -> None:
        """Wait until the worker's page of readiness has a text."""
        wait_for(lambda: text in self.ready(), f"/ready to say {text!r}")

    def until_ended(self, text: str) -> None:
        """Wait until the worker has ended, having said why."""
        wait_for(self.has_ended, "the worker to end")
        assert text in self.log(), self.log()

    def until_ready(self) -> None:
        self.run('until curl -sf "$WORKER/ready"; do sleep 0.1; done')

    @property
    def pid(self) -> str:
        return (self.folder / "worker.pid").read_text().strip()

    def load(self, *rows: tuple[str, str], header: str = HEADER) -> None:
        lines = [f"{key},Noted,2025-01-02T03:04:05Z,{text}\n" for key, text in rows]
        self.fleet.load(header + "".join(lines))

    def send(self, aggregate_id: str, text: str) -> None:
        """Put an event into the log, and wait for nobody to store it."""
        clock, topic = SystemClock(), Topics.of(self.fleet.domain).events
        event = EventRecord(
            id=Uuid7Generator().new(),
            type="Noted",
            domain=self.fleet.domain,
            aggregate_id=aggregate_id,
            time=clock.now(),
            data={"text": text},
        )
        place = topic, partition_of(aggregate_id, PARTITIONS), 0
        record = LogRecord(*place, aggregate_id.encode(), encode(event), EVENT_HEADERS)
        self.fleet.kafka.produce([record])

    def texts(self, aggregate_id: str) -> list[str]:
        found = self.fleet.events.find({"aggregate_id": aggregate_id}).sort("version", 1)
        return [event["data"]["text"] for event in found]

    def relayed(self, aggregate_id: str) -> list[str]:
        events = self.fleet.topic_events("out")
        return [event["data"]["text"] for event in events if event["subject"] == aggregate_id]

    def copy(self) -> dict[str, list[Any]]:
        database = self.fleet.database
        return {name: list(database[name].find()) for name in database.list_collection_names()}

    def set_back(self, copy: dict[str, list[Any]]) -> None:
        """Put a copy in the database's place."""
        database = self.fleet.database
        for name in database.list_collection_names():
            database[name].delete_many({})
            if copy.get(name):
                database[name].insert_many(copy[name])


@pytest.fixture(scope="module")
def mongo() -> Iterator[RefusingMongoDB]:
    """A MongoDB of their own, which can refuse calls."""
    with running(RefusingMongoDB) as started:
        yield started


@pytest.fixture(scope="module")
def operator(
    kafka: str, mongo: RefusingMongoDB, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator of a fleet that is well; each test leaves it so."""
    folder = tmp_path_factory.mktemp("operations")
    (folder / "notes.py").write_text(MODULE)
    with Fleet(kafka, mongo.url, folder, "notes", partitions=PARTITIONS) as fleet:
        operator = Operator(fleet)
        operator.run("start-workers")
        try:
            operator.until_ready()
            yield operator
        finally:
            with suppress(ProcessLookupError):
                os.kill(int(operator.pid), signal.SIGKILL)


def test_a_poison_event(operator: Operator) -> None:
    see, do, well = blocks("A poison event")
    operator.deploy(RAISING)
    operator.run("restart-workers")
    operator.load(("a", "1"), ("a", "poison"), ("a", "3"), ("b", "4"))
    operator.until_told("parks")

    seen = operator.run(see, ROLE="snapshot", AGGREGATE="a")
    assert seen.count("'a' at version 2") == 1
    assert "notes.py" in seen
    operator.deploy(MODULE)
    operator.run(do)
    assert "nothing is parked" in operator.run(well)
    assert operator.fleet.json("state", "notes", "a")["state"]["texts"] == ["1", "poison", "3"]


def test_a_wrong_deployment(operator: Operator) -> None:
    see, do, well = blocks("A wrong deployment")
    operator.deploy(UNREADABLE)
    operator.run("restart-workers")
    wait_for(lambda: "author" in operator.log(), "the worker to end")

    assert "author" in operator.run(see, status=1)
    operator.deploy(MODULE)
    operator.run(do)
    operator.run(well)


def test_a_restored_store(operator: Operator) -> None:
    see, do, well = blocks("A restored store")
    older = operator.copy()
    operator.load(("a", "after the copy"), ("c", "after the copy"))
    operator.fleet.settle()
    before = operator.texts("a")
    operator.run("stop-workers")
    operator.set_back(older)
    operator.run("start-workers")
    operator.until_ended("but this store only up to")

    assert "but this store only up to" in operator.run(see, status=1)
    assert "2 events restored" in operator.run(do)
    operator.run(well)
    assert (operator.texts("a"), operator.texts("c")) == (before, ["after the copy"])


def test_a_lost_group(operator: Operator) -> None:
    see, do, well = blocks("A lost group")
    before = operator.relayed("a")
    operator.run("stop-workers")
    operator.fleet.kafka.delete_groups(*map(operator.fleet.group, GROUPS))
    operator.run("start-workers")
    operator.until_ended("the consumer group has no offset")

    seen = operator.run(see, status=1)
    assert "the consumer group has no offset" in seen
    assert "the group has lost its offset" in seen
    operator.run(do)
    operator.run(well)
    operator.load(("a", "after the loss"))
    operator.fleet.settle()
    assert operator.relayed("a") == [*before, "after the loss"]


def test_a_rewind(operator: Operator) -> None:
    see, do, well = blocks("A rewind")
    before, copy = operator.texts("b"), operator.copy()
    operator.run("stop-workers")
    wrong = operator.fleet.database.client[f"{operator.fleet.prefix}-wrong"]
    for name, documents in copy.items():
        if documents:
            wrong[name].insert_many(documents)
    operator.run("start-workers", EVENTFLEET_MONGO_DATABASE=wrong.name)
    operator.until_ready()
    operator.send("b", "in the wrong store")
    operator.fleet.settle()
    operator.run("restart-workers")
    operator.until_ended("but this store only up to")

    assert operator.fleet.prefix in operator.run(see, status=1)
    assert "goes on from offset" in operator.run(do)
    assert "rewind" in operator.run(well)
    assert operator.texts("b") == [*before, "in the wrong store"]
    operator.fleet.database.client.drop_database(wrong)


def test_a_full_disk(operator: Operator, mongo: RefusingMongoDB) -> None:
    see, do, well = blocks("A full disk")
    with mongo.failing("insert", "update", "bulkWrite", errorCode=OUT_OF_DISK_SPACE):
        operator.send("d", "when there is room")
        operator.until_told("waits:")
        seen = operator.run(see)
    assert "append of notes" in seen
    assert seen.endswith("ok\n")
    pid = operator.pid
    operator.run(do)
    operator.run(well)
    assert operator.pid == pid
    assert operator.texts("d") == ["when there is room"]
    assert "is well again" in operator.log()


def test_a_frozen_worker(operator: Operator) -> None:
    see, do, well = blocks("A frozen worker")
    os.kill(int(operator.pid), signal.SIGSTOP)

    assert operator.run(see) == "no answer\n"
    operator.run(do, PID=operator.pid)
    operator.send("e", "meanwhile")
    operator.run(well)
    operator.fleet.settle()
    assert operator.relayed("e") == ["meanwhile"]


def test_a_rolling_change(operator: Operator) -> None:
    see, do, well = blocks("A rolling change of a domain")
    [other] = operator.fleet.start("append snapshot relay", METRICS_PORT="0")
    operator.deploy(CHANGED)

    operator.run(see)
    operator.run(do)
    operator.until_ready()  # having read its code
    operator.deploy(MODULE)  # senders come last
    operator.load(("f", "from the code before"))
    operator.deploy(CHANGED)
    assert other.stop() == 0
    operator.load(("f", "from the new code,ann"), header=HEADER.replace("text", "text,author"))
    operator.fleet.settle()
    assert "nothing is parked" in operator.run(well)
    assert operator.texts("f") == ["from the code before", "from the new code"]
    letters = operator.fleet.kafka.records(operator.fleet.topic("dead-letters"))
    assert b"f" not in {letter.key for letter in letters}


def test_a_changed_topic(operator: Operator) -> None:
    """The last one: what a lost topic had, no later audit finds."""
    see, make, events, stored, route, well = blocks("A changed topic")
    ways_back = {"events": make + events, "stored": make + stored, "out": route}
    for kind, way_back in ways_back.items():
        topic = operator.fleet.topic(kind)
        operator.fleet.kafka.delete([topic])
        operator.until_told(f"topic {topic} was deleted")

        assert '"kind": "stopped"' in operator.run(see)
        operator.run(way_back)
        operator.run(well)
        row = f"after-{kind}", "well again,ann"
        operator.load(row, header=HEADER.replace("text", "text,author"))
        operator.fleet.settle()
        assert operator.relayed(f"after-{kind}") == ["well again"]


def test_every_section_of_a_case_has_its_test() -> None:
    cases = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    tested = [each for each in cases if blocks(each)]
    assert len(tested) == 9
