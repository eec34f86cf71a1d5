"""A fleet of several domains in one worker, whose Kafka changes while it runs."""

import json
import uuid
from typing import Any

from tests.acceptance.fleet import Fleet, Worker
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


def reasons(worker: Worker, kind: str) -> list[dict[str, Any]]:
    assert worker.process.poll() is None, worker.output()
    status, page = worker.get("/ready")
    found: list[dict[str, Any]] = json.loads(page)["reasons"]
    assert status == (503 if any(each["blocking"] for each in found) else 200)
    return [each for each in found if each["kind"] == kind]


def stopped(worker: Worker) -> set[tuple[str, str]]:
    return {(each["domain"], each["role"]) for each in reasons(worker, "stopped")}
