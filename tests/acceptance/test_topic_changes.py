"""Topics that change under a running fleet: the smallest part stops, is told, and comes back."""

import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewPartitions

from tests.acceptance.fleet import Fleet, Worker
from tests.acceptance.http_service import sent, serving
from tests.acceptance.kafka_by_hand import wait_for

PARTITIONS = 2
ROLES = "append snapshot relay"
MODULE = """
from msgspec.structs import replace

from eventfleet import Command, Domain, Emits, Event, Route, State, every


class Noted(Event):
    text: str


class Notes(State):
    count: int = 0


def evolve(notes: Notes, event: Noted) -> Notes:
    return replace(notes, count=notes.count + 1)


def domain(name: str) -> Domain[Notes]:
    routes = [Route(f"{name}.out")]
    return Domain(
        name, state=Notes, evolve=evolve, events=[Noted], snapshot=every(1), routes=routes
    )


class Note(Command):
    text: str


notes, letters = domain("notes"), domain("letters")
memos = Domain(
    "memos", state=Notes, evolve=evolve, events=[Noted], commands=[Emits(Note, Noted)]
)
"""


class ChangingFleet(Fleet):
    """Domains `notes` and `letters`, with their roles in one worker; `memos` takes commands."""

    def _remove(self) -> None:
        names = ("notes.", "letters.", "memos.")
        self.kafka.delete(topic for topic in self.kafka.topics() if topic.startswith(names))

    def note(self, domain: str) -> str:
        """Load an event of a new aggregate; its id."""
        aggregate_id = uuid.uuid4().hex
        path = self.folder / f"{aggregate_id}.csv"
        header = "case:concept:name,concept:name,time:timestamp,text\n"
        path.write_text(f"{header}{aggregate_id},Noted,2026-01-02T03:04:05Z,a\n")
        done = self.invoke("load", str(path), "--domain", domain)
        assert done.exit_code == 0, done.output
        return aggregate_id

    def is_relayed(self, domain: str, aggregate_id: str) -> bool:
        records = self.kafka.records(f"{domain}.out")
        return aggregate_id in {json.loads(record.value)["subject"] for record in records}

    def is_snapshotted(self, domain: str, aggregate_id: str) -> bool:
        found = self.database[f"{domain}.snapshots"].count_documents({"aggregate_id": aggregate_id})
        return bool(found)

    def goes_on(self, domain: str) -> None:
        """Wait until all roles of a domain have taken a new event."""
        made = self.note(domain)
        wait_for(lambda: self.is_relayed(domain, made), f"relay of {domain}")
        wait_for(lambda: self.is_snapshotted(domain, made), f"snapshot of {domain}")


@pytest.fixture
def fleet(
    kafka: str, mongo_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChangingFleet]:
    (tmp_path / "changing.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    with ChangingFleet(kafka, mongo_url, tmp_path, "changing", partitions=PARTITIONS) as fleet:
        fleet.environment["EVENTFLEET_KAFKA_METADATA_AGE"] = "1"
        yield fleet


def grow(fleet: ChangingFleet, topic: str, partitions: int) -> None:
    wanted = {topic: NewPartitions(partitions)}
    fleet.kafka._with_admin(lambda admin: admin.create_partitions(wanted))


def reasons(worker: Worker, kind: str) -> list[dict[str, Any]]:
    assert worker.process.poll() is None, worker.output()
    status, page = worker.get("/ready")
    found: list[dict[str, Any]] = json.loads(page)["reasons"]
    assert status == (503 if any(each["blocking"] for each in found) else 200)
    return [each for each in found if each["kind"] == kind]


def stopped(worker: Worker) -> set[tuple[str, str]]:
    return {(each["domain"], each["role"]) for each in reasons(worker, "stopped")}


def until_told(worker: Worker, topic: str, finding: str) -> None:
    """Wait until readiness, metric and log tell the fault of a topic."""
    cause = f"topic {topic} {finding}"
    told = partial(reasons, worker, "topic")
    wait_for(lambda: any(cause in each["reason"] for each in told()), f"/ready to say {cause!r}")
    assert worker.metric("topic_faults", topic=topic) == 1
    assert cause in worker.output()


def test_what_needs_a_changed_topic_stops_and_all_else_goes_on(fleet: ChangingFleet) -> None:
    [worker] = fleet.start(ROLES)
    fleet.goes_on("notes")
    fleet.goes_on("letters")

    fleet.kafka.delete(["notes.events"])
    assert fleet.invoke("topics", "create").exit_code == 0
    until_told(worker, "notes.events", "was deleted and made anew")
    assert stopped(worker) == {("notes", "append")}
    assert worker.metric("stopped") == worker.metric("stopped", role="append") == PARTITIONS
    assert "append of notes is stopped until the process is restarted" in worker.output()
    fleet.goes_on("letters")

    fleet.kafka.delete(["notes.stored"])
    until_told(worker, "notes.stored", "was deleted")
    assert stopped(worker) == {("notes", "append"), ("notes", "snapshot"), ("notes", "relay")}
    fleet.goes_on("letters")

    fleet.kafka.delete(["letters.dead-letters"])
    until_told(worker, "letters.dead-letters", "was deleted")
    assert fleet.invoke("topics", "create", "letters").exit_code == 0
    until_told(worker, "letters.dead-letters", "was deleted and made anew")
    fleet.goes_on("letters")

    fleet.kafka.delete(["letters.out"])
    until_told(worker, "letters.out", "was deleted")
    assert stopped(worker) - {("letters", "relay")} == {
        ("notes", role) for role in ("append", "snapshot", "relay")
    }
    made = fleet.note("letters")
    wait_for(lambda: fleet.is_snapshotted("letters", made), "snapshot of letters")
    assert worker.stop() == 1


def test_added_partitions_stand_still_alone_and_hinder_no_start(fleet: ChangingFleet) -> None:
    [worker] = fleet.start(ROLES, DOMAINS="changing")
    fleet.goes_on("letters")
    grow(fleet, "letters.events", 4)
    until_told(worker, "letters.events", "has 4 partitions")
    wait_for(lambda: len(reasons(worker, "stopped")) == 2, "two partitions to stand still")
    assert {each["partition"] for each in reasons(worker, "stopped")} == {2, 3}
    assert stopped(worker) == {("letters", "append")}
    assert "EVENTFLEET_PARTITIONS (2)" in reasons(worker, "stopped")[0]["reason"]
    fleet.goes_on("letters")
    assert worker.stop() == 1

    fleet.kafka.delete(["notes.snapshots"])
    [worker] = fleet.begin(ROLES)
    wait_for(lambda: worker.get("/ready")[0], "the worker to answer")
    refused = {("notes", role) for role in ROLES.split()}
    wait_for(lambda: stopped(worker) == refused | {("letters", "append")}, "the start")
    assert "append of notes is stopped until the process is restarted: topic notes.snapshots" in (
        worker.output()
    )
    fleet.goes_on("letters")


def test_a_service_answers_commands_with_the_fault_of_their_topic(fleet: ChangingFleet) -> None:
    with serving(fleet.environment, fleet.folder) as service, service.client() as client:
        assert sent(client, "memos/a/Note", {"text": "a"}).is_success
        fleet.kafka.delete(["memos.events"])
        assert fleet.invoke("topics", "create", "memos").exit_code == 0
        refused = partial(sent, client, "memos/a/Note", {"text": "b"})
        wait_for(lambda: "made anew" in refused().text, "the reason")
        assert refused().status_code == 503
        ready = client.get("/ready")
        assert "topic memos.events was deleted and made anew" in ready.text
        assert ready.status_code == 200
