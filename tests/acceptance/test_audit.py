"""The audit names the aggregate and the fault after each thing that is broken by hand."""

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet
from tests.acceptance.kafka_by_hand import NewRecord

HEADER = "case:concept:name,concept:name,time:timestamp\n"
CASES, EVENTS, LATE = 8, 7, 400
CASE = "case-3"
ROUTE = "process_log.activities"


def rows() -> str:
    lines = [
        f"case-{case},step {number},2024-03-0{number}T10:00:00Z\n"
        for number in range(1, EVENTS + 1)
        for case in range(CASES)
    ]
    return HEADER + "".join(lines)


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet that has done its work and has ended."""
    folder = tmp_path_factory.mktemp("fleet")
    with open_fleet(request, folder, "eventfleet.domains.process_log", partitions=2) as fleet:
        (worker,) = fleet.start("append snapshot relay")
        fleet.load(rows())
        fleet.settle()
        assert worker.stop() == 0
        yield fleet


def test_at_first_the_audit_is_clean(fleet: Fleet) -> None:
    text, report = fleet.audit()
    counts = ("stored", "aggregates", "snapshots", "relayed", "dead_letters", "superseded")
    total = CASES * EVENTS
    assert [report[name] for name in counts] == [total, CASES, CASES, total, 0, 0]
    assert "clean" in text
    assert f"{total} stored, {CASES} aggregates" in text


# What is done by hand, each undone at the end

Fault = Callable[[Fleet], AbstractContextManager[None]]


def removed(version: int) -> Fault:
    @contextmanager
    def fault(fleet: Fleet) -> Iterator[None]:
        event = stored(fleet, version)
        fleet.events.delete_one({"_id": event["_id"]})
        yield
        fleet.events.insert_one(event)

    return fault


def doubled(version: int) -> Fault:
    @contextmanager
    def fault(fleet: Fleet) -> Iterator[None]:
        event = stored(fleet, version) | {"_id": str(uuid.uuid4()), "version": EVENTS + 1}
        fleet.events.insert_one(event)
        yield
        fleet.events.delete_one({"_id": event["_id"]})

    return fault


def swapped(*fields: str) -> Fault:
    """Versions 3 and 4 exchange these fields."""

    @contextmanager
    def fault(fleet: Fleet) -> Iterator[None]:
        third, fourth = stored(fleet, 3), stored(fleet, 4)
        replace(fleet, third | pick(fourth, fields), fourth | pick(third, fields))
        yield
        replace(fleet, third, fourth)

    return fault


def stored(fleet: Fleet, version: int) -> dict[str, Any]:
    event = fleet.events.find_one({"aggregate_id": CASE, "version": version})
    assert event
    return event


def pick(event: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: event[field] for field in fields}


def replace(fleet: Fleet, *events: dict[str, Any]) -> None:
    fleet.events.delete_many({"aggregate_id": CASE, "version": {"$in": [3, 4]}})
    fleet.events.insert_many(events)


@contextmanager
def snapshot_altered(fleet: Fleet) -> Iterator[None]:
    before = fleet.snapshots.find_one({"aggregate_id": CASE})
    assert before
    fleet.snapshots.update_one({"_id": before["_id"]}, {"$set": {"state.last": "step 9"}})
    yield
    fleet.snapshots.replace_one({"_id": before["_id"]}, before)


@contextmanager
def snapshot_too_new(fleet: Fleet) -> Iterator[None]:
    before = fleet.snapshots.find_one({"aggregate_id": CASE})
    assert before
    fleet.snapshots.insert_one(before | {"_id": "by hand", "version": EVENTS + 1})
    yield
    fleet.snapshots.delete_one({"_id": "by hand"})


@contextmanager
def published_snapshot_altered(fleet: Fleet) -> Iterator[None]:
    found = fleet.kafka.records(fleet.topic("snapshots"))
    record = [each for each in found if each.key == CASE.encode()][-1]
    snapshot = json.loads(record.value)
    snapshot["state"]["events"] += 1
    fleet.kafka.produce([changed(record, value=json.dumps(snapshot).encode())])
    yield
    fleet.kafka.produce([record])


def changed(record: Any, **fields: Any) -> Any:
    return dataclasses.replace(record, **fields)


def remade(topic: str, change: Callable[[list[Any], int], list[Any]]) -> Fault:
    """The topic is made anew with what `change` makes of its records and of the case's third."""

    @contextmanager
    def fault(fleet: Fleet) -> Iterator[None]:
        before = fleet.kafka.records(topic)
        of_case = [i for i, record in enumerate(before) if record.key == CASE.encode()]
        fleet.remake(topic, change(before, of_case[2]))
        yield
        fleet.remake(topic, before)

    return fault


def without(records: list[Any], index: int) -> list[Any]:
    return records[:index] + records[index + 1 :]


def twice(records: list[Any], index: int) -> list[Any]:
    return [*records, records[index]]


def too_late(records: list[Any], index: int) -> list[Any]:
    return [*without(records, index), records[index]]


STORED = "process_log.stored"
FAULTS: dict[str, tuple[Fault, int, str]] = {
    "the first event removed": (removed(1), 2, "version 1 is missing, 2 follows"),
    "a middle event removed": (removed(4), 2, "version 4 is missing, 5 follows"),
    "the last event removed": (removed(EVENTS), 1, "is not stored"),
    "an event doubled": (doubled(4), 1, "is not in the log"),
    "the last event doubled": (doubled(EVENTS), 1, "is not in the log"),
    "two versions swapped": (swapped("version"), 2, "before the version below it"),
    "two payloads swapped": (swapped("type", "time", "data"), 1, "differs from"),
    "a snapshot altered": (snapshot_altered, 3, "is not the fold of its events"),
    "a snapshot too new": (snapshot_too_new, 3, "is past the last of 7 events"),
    "a published snapshot altered": (
        published_snapshot_altered,
        3,
        "the record in process_log.snapshots of version",
    ),
    "one missing from .stored": (remade(STORED, without), 4, f"is missing from {STORED}"),
    "one doubled in .stored": (remade(STORED, twice), 4, f"is 2 times in {STORED}"),
    "one missing from a route": (remade(ROUTE, without), 4, f"is missing from {ROUTE}"),
    "one doubled on a route": (remade(ROUTE, twice), 4, f"is 2 times in {ROUTE}"),
    "one out of order on a route": (remade(ROUTE, too_late), 4, f"is out of order in {ROUTE}"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_audit_names_the_aggregate_and_the_fault(fleet: Fleet, name: str) -> None:
    fault, invariant, phrase = FAULTS[name]
    with fault(fleet):
        text, report = fleet.audit()
    violations = report["violations"]
    assert {violation["aggregate_id"] for violation in violations} == {CASE}
    said = [v["fault"] for v in violations if v["invariant"] == invariant]
    assert any(phrase in each for each in said), violations
    (line, *_) = [line for line in text.splitlines() if phrase in line]
    assert f"invariant {invariant}, {CASE}: " in line
    assert f"{len(violations)} violations" in text


# What is not judged


def test_once_all_is_undone_the_audit_is_clean_again(fleet: Fleet) -> None:
    assert "clean" in fleet.run("audit")


def test_logs_are_judged_from_the_oldest_record_that_they_keep(fleet: Fleet) -> None:
    for topic in (fleet.topic("events"), STORED, ROUTE):
        kept = [r.offset for r in fleet.kafka.records(topic) if r.partition == 0][10:]
        fleet.kafka.truncate(topic, {0: kept[0]})
        text, report = fleet.audit()
        assert report["violations"] == []
        assert report["oldest"][topic] == {"0": kept[0], "1": 0}
        assert f"{topic} read from the oldest offset kept (0: {kept[0]}, 1: 0)" in text


def test_without_the_log_the_first_event_is_still_missed(fleet: Fleet) -> None:
    topics = (fleet.topic("events"), STORED, ROUTE)
    for topic in topics:
        ends = {r.partition: r.offset + 1 for r in fleet.kafka.records(topic)}
        fleet.kafka.truncate(topic, ends)
    with removed(1)(fleet):
        text = fleet.run("audit", status=1)
        report = fleet.json("audit", status=1)
    fault = "version 1 is missing, 2 follows"
    assert f"invariant 2, {CASE}: {fault}\n" in text
    assert report["violations"] == [{"invariant": 2, "aggregate_id": CASE, "fault": fault}]


def written(count: int) -> list[Any]:
    """Records for `.events` as any program could write them."""
    moment = datetime(2024, 4, 1, tzinfo=UTC).isoformat()
    found = []
    for number in range(count):
        case = f"late-{number % 50}"
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "type": "step",
            "source": "process_log",
            "subject": case,
            "time": moment,
            "data": {"number": number},
        }
        found.append(NewRecord("process_log.events", case.encode(), json.dumps(event).encode()))
    return found


def test_what_is_not_committed_yet_is_not_judged(fleet: Fleet) -> None:
    before = CASES * EVENTS
    fleet.kafka.produce(written(LATE))
    _, report = fleet.audit()
    assert (report["stored"], report["violations"]) == (before, [])
    workers = fleet.start("append", CHUNK_RECORDS="10")
    stored = 0
    while stored < before + LATE:
        _, report = fleet.audit()
        assert report["violations"] == []
        stored = report["stored"]
    assert report["relayed"] < stored
    workers += fleet.start("snapshot relay", CHUNK_RECORDS="10")
    _, report = fleet.audit()
    assert report["violations"] == []
    fleet.settle()
    _, report = fleet.audit()
    assert (report["relayed"], report["violations"]) == (LATE, [])
    assert [worker.stop() for worker in workers] == [0, 0]


def test_what_became_a_dead_letter_is_a_problem_and_no_violation(fleet: Fleet) -> None:
    """No violation either when the log is kept for longer than the dead letters."""
    before = fleet.events.count_documents({})
    fleet.kafka.produce([NewRecord(fleet.topic("events"), b"case-9", b"no event")])
    fleet.start("append")
    fleet.settle("append")
    _, report = fleet.audit()
    assert (report["dead_letters"], report["stored"], report["violations"]) == (1, before, [])
    (problem,) = report["problems"]
    assert (problem["kind"], problem["subject"]) == ("dead-letter", "case-9")
    (letter,) = fleet.kafka.records(fleet.topic("dead-letters"))
    fleet.kafka.truncate(letter.topic, {letter.partition: letter.offset + 1})
    _, report = fleet.audit()
    assert (report["dead_letters"], report["clean"]) == (0, True)
