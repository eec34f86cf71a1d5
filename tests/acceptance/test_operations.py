"""The page for operators: each section's commands, as they stand, on what they are for."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.page_operator import HEADER, PAGE, PARTITIONS, Operator, blocks
from tests.conftest import running
from tests.servers.mongodb import RefusingMongoDB

OUT_OF_DISK_SPACE = 14031
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
    assert len(tested) == 11  # two of them in test_removed_records and test_withdrawn_rights
