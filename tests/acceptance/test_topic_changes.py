"""Topics that change under a running fleet: the smallest part stops, is told, and comes back."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions

from tests.acceptance.changing_fleet import (
    MODULE,
    PARTITIONS,
    ROLES,
    ChangingFleet,
    reasons,
    stopped,
)
from tests.acceptance.fleet import Worker
from tests.acceptance.http_service import sent, serving
from tests.acceptance.kafka_by_hand import wait_for


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
