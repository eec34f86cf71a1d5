"""The consuming of events: what EventWorker exchanges with the stream and the two storages.

EventWorker is three workers here: append adds events, snapshot keeps snapshots, relay passes events
on to other topics.
"""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from eventfleet.stores.mongo.documents import event_id as stored_event_id
from tests.acceptance.fleet import Fleet, Worker
from tests.acceptance.fleet_kinds import KINDS, open_fleet, servers_only
from tests.acceptance.kafka_by_hand import NewRecord, wait_for

ROUTE = "process_log.activities"


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """An append, a snapshot and a relay worker at work; snapshots are due every five events."""
    folder = tmp_path_factory.mktemp("fleet")
    with open_fleet(request, folder, "eventfleet.domains.process_log", partitions=2) as fleet:
        fleet.start("append", "snapshot", "relay")
        yield fleet


@pytest.fixture
def case() -> str:
    """An aggregate of the test's own."""
    return f"case-{uuid.uuid4().hex[:8]}"


def written(case: str, *types: str) -> list[NewRecord]:
    """Events of a case as any program could write them to `.events`."""
    moment = datetime(2024, 4, 1, 10, tzinfo=UTC).isoformat()
    return [
        NewRecord(
            "process_log.events",
            case.encode(),
            json.dumps(
                {
                    "specversion": "1.0",
                    "id": str(uuid.uuid4()),
                    "type": name,
                    "source": "process_log",
                    "subject": case,
                    "time": moment,
                    "data": {"by": f"who did {name}"},
                }
            ).encode(),
        )
        for name in types
    ]


def ids(records: list[NewRecord]) -> list[str]:
    return [json.loads(record.value)["id"] for record in records]


def consume(fleet: Fleet, records: list[NewRecord]) -> list[NewRecord]:
    """Write them to the stream, and wait until every role has passed them."""
    fleet.kafka.produce(records)
    fleet.settle()
    return records


def stored(fleet: Fleet, case: str) -> list[dict[str, Any]]:
    return list(fleet.events.find({"aggregate_id": case}).sort("version", 1))


def snapshots(fleet: Fleet, case: str) -> list[dict[str, Any]]:
    return list(fleet.snapshots.find({"aggregate_id": case}).sort("version", 1))


def of_case(fleet: Fleet, kind: str, case: str) -> list[Any]:
    found = fleet.kafka.records(fleet.topic(kind))
    return [json.loads(record.value) for record in found if record.key == case.encode()]


def worker_of(fleet: Fleet, role: str) -> Worker:
    return [worker for worker in fleet.workers if worker.roles == (role,)][-1]


def restarted(fleet: Fleet, role: str) -> Worker:
    """The role's worker anew, with nothing in memory."""
    assert worker_of(fleet, role).stop() == 0
    return fleet.start(role)[0]


# MessageStream ->> MessageStream: storing events


def test_message_stream_stores_events(fleet: Fleet, case: str) -> None:
    records = consume(fleet, written(case, "a", "b"))
    found = [r for r in fleet.kafka.records(fleet.topic("events")) if r.key == case.encode()]
    assert [record.value for record in found] == [record.value for record in records]


def test_message_stream_stores_events_while_no_worker_runs(fleet: Fleet, case: str) -> None:
    assert worker_of(fleet, "append").stop() == 0
    fleet.kafka.produce(written(case, "a", "b", "c"))
    assert stored(fleet, case) == []
    fleet.start("append")
    fleet.settle()
    assert [event["type"] for event in stored(fleet, case)] == ["a", "b", "c"]


# EventWorker ->> EventWorker: start; EventWorker ->> MessageStream: consume event


def test_worker_starts_and_consumes_events(fleet: Fleet, case: str) -> None:
    worker = worker_of(fleet, "append")
    before = worker.metric("stored_total")
    consume(fleet, written(case, "a", "b", "c"))
    assert worker.ready()
    assert worker.metric("assigned_partitions") == 2
    assert worker.metric("stored_total") - before == 3


# MessageStream ->> EventWorker: events


def test_message_stream_answers_with_events_in_their_order(fleet: Fleet, case: str) -> None:
    pairs = zip(written(case, "a", "b"), written(f"{case}-2", "c", "d"), strict=True)
    consume(fleet, [record for pair in pairs for record in pair])
    for each in (case, f"{case}-2"):
        records = [r for r in fleet.kafka.records(fleet.topic("events")) if r.key == each.encode()]
        places = [(event["partition"], event["offset"]) for event in stored(fleet, each)]
        assert places == [(record.partition, record.offset) for record in records]


# EventWorker ->> EventStorage: add event


def test_worker_adds_event_to_event_storage(fleet: Fleet, case: str) -> None:
    (record,) = consume(fleet, written(case, "a"))
    (event,) = stored(fleet, case)
    (offset,) = [
        r.offset for r in fleet.kafka.records(fleet.topic("events")) if r.key == case.encode()
    ]
    assert (stored_event_id(event["_id"]), event["version"], event["offset"]) == (
        *ids([record]),
        1,
        offset,
    )
    assert event["data"] == {"by": "who did a"}


# EventStorage ->> EventWorker: ok


def test_event_storage_answers_ok_only_once_for_each_event(fleet: Fleet, case: str) -> None:
    records = written(case, "a", "b")
    consume(fleet, records)
    before = worker_of(fleet, "append").metric("repeated_total")
    consume(fleet, records)
    assert [stored_event_id(event["_id"]) for event in stored(fleet, case)] == ids(records)
    assert worker_of(fleet, "append").metric("repeated_total") - before == 2


# EventWorker ->> EventWorker: check rule


def test_worker_checks_the_snapshot_rule(fleet: Fleet, case: str) -> None:
    consume(fleet, written(case, "a", "b", "c", "d"))
    assert snapshots(fleet, case) == []
    consume(fleet, written(case, "e"))
    assert [each["version"] for each in snapshots(fleet, case)] == [5]


# EventWorker ->> SnapshotStorage: get snapshot


def test_worker_gets_snapshot_then_events_after_it(fleet: Fleet, case: str) -> None:
    """Nothing in memory, and the first two events gone: only the snapshot still tells of them."""
    consume(fleet, written(case, "a", "b", "c", "d", "e"))
    consume(fleet, written(case, "f", "g"))
    assert [each["version"] for each in snapshots(fleet, case)] == [5]
    restarted(fleet, "snapshot")
    gone = {"aggregate_id": case, "version": {"$in": [1, 2]}}
    removed = list(fleet.events.find(gone))
    fleet.events.delete_many(gone)
    try:
        consume(fleet, written(case, "h", "i", "j"))
    finally:
        fleet.events.insert_many(removed)
    assert [each["version"] for each in snapshots(fleet, case)] == [5, 10]
    assert snapshots(fleet, case)[-1]["state"]["events"] == 10


# SnapshotStorage ->> EventWorker: snapshot


def test_snapshot_storage_answers_with_the_snapshot(fleet: Fleet, case: str) -> None:
    """The worker goes on from the stored state, also where that was altered by hand."""
    consume(fleet, written(case, "a", "b", "c", "d", "e"))
    restarted(fleet, "snapshot")
    mark = {"$set": {"state.attributes.by": "nobody", "state.events": 105}}
    assert fleet.snapshots.update_one({"aggregate_id": case}, mark).matched_count == 1
    consume(fleet, written(case, "f", "g", "h", "i", "j"))
    assert snapshots(fleet, case)[-1]["state"]["events"] == 110
    fleet.snapshots.delete_many({"aggregate_id": case})


# EventWorker ->> EventStorage: get events after snapshot; EventStorage ->> EventWorker: events


@servers_only("MongoDB's profiler")
def test_event_storage_answers_with_the_events_after_the_snapshot(fleet: Fleet, case: str) -> None:
    consume(fleet, written(case, "a", "b", "c", "d", "e"))
    consume(fleet, written(case, "f", "g", "h"))
    restarted(fleet, "snapshot")
    with fleet.profiled():
        consume(fleet, written(case, "i", "j"))
    asked = [
        query["filter"]["version"]
        for query in fleet.queries("events")
        if query.get("filter", {}).get("aggregate_id") == case
    ]
    assert {"$gt": 5, "$lte": 8} in asked
    assert not [version for version in asked if version["$gt"] < 5]


# EventWorker ->> EventWorker: replay events


def test_worker_replays_events(fleet: Fleet, case: str) -> None:
    types = ["a", "b", "a", "c", "b"]
    consume(fleet, written(case, *types))
    (snapshot,) = snapshots(fleet, case)
    assert snapshot["state"] == {
        "events": 5,
        "last": "b",
        "activities": dict(Counter(types)),
        "attributes": {"by": "who did b"},
    }


# EventWorker ->> SnapshotStorage: update snapshot


def test_worker_updates_snapshot(fleet: Fleet, case: str) -> None:
    for _ in range(2):
        consume(fleet, written(case, "a", "b", "c", "d", "e"))
    assert [each["version"] for each in snapshots(fleet, case)] == [5, 10]
    assert [each["version"] for each in of_case(fleet, "snapshots", case)][-1] == 10


# SnapshotStorage ->> EventWorker: ok


def test_snapshot_storage_answers_ok_before_the_worker_commits(fleet: Fleet, case: str) -> None:
    """Every snapshot in the topic, which is written with the commit, is in the storage."""
    consume(fleet, written(case, "a", "b", "c", "d", "e"))
    published = of_case(fleet, "snapshots", case)
    kept = {each["version"]: each["state"] for each in snapshots(fleet, case)}
    assert {each["version"]: each["state"] for each in published} == kept


# par


def test_snapshots_are_made_beside_the_storing_of_events(fleet: Fleet, case: str) -> None:
    """The snapshot worker is down: events are stored and sent on all the same."""
    assert worker_of(fleet, "snapshot").stop() == 0
    fleet.kafka.produce(written(case, "a", "b", "c", "d", "e"))
    fleet.settle("append", "relay")
    assert len(of_case(fleet, "activities", case)) == 5
    assert snapshots(fleet, case) == []
    fleet.start("snapshot")
    fleet.settle()
    assert [each["version"] for each in snapshots(fleet, case)] == [5]


# EventWorker ->> MessageStream: produce event


@pytest.mark.parametrize("kind", ["stored", "activities"])
def test_worker_produces_event(fleet: Fleet, case: str, kind: str) -> None:
    records = consume(fleet, written(case, "a", "b", "c"))
    found = of_case(fleet, kind, case)
    assert [(event["id"], event["version"]) for event in found] == [
        (event_id, version) for version, event_id in enumerate(ids(records), 1)
    ]


# EventWorker ->> EventWorker: continue


def test_worker_continues_with_the_events_that_come_later(fleet: Fleet, case: str) -> None:
    worker = worker_of(fleet, "append")
    consume(fleet, written(case, "a"))
    consume(fleet, written(case, "b"))
    assert [(e["version"], e["type"]) for e in stored(fleet, case)] == [(1, "a"), (2, "b")]
    assert worker_of(fleet, "append") is worker
    assert worker.ready()


# EventWorker ->> MessageStream: commit events


def test_worker_commits_events(fleet: Fleet, case: str) -> None:
    topic = fleet.topic("events")
    before = sum(fleet.kafka.offsets(fleet.group("append"), topic).values())
    consume(fleet, written(case, "a", "b", "c"))
    assert sum(fleet.kafka.offsets(fleet.group("append"), topic).values()) - before == 3


def test_worker_commits_after_producing(fleet: Fleet, case: str) -> None:
    """Killed with work in flight: what was sent is what was committed, and none is sent twice."""
    records = written(case, *["step"] * 1_200)
    assert worker_of(fleet, "append").stop() == 0
    fleet.kafka.produce(records)
    (worker,) = fleet.start("append", CHUNK_RECORDS="1")
    wait_for(lambda: worker.metric("stored_total") > 0, "events stored")
    worker.kill()
    rest = fleet.kafka.waiting(fleet.group("append"), fleet.topic("events"))
    assert 0 < len(rest) < 1_200
    sent = {event["id"] for event in of_case(fleet, "stored", case)}
    assert sent == set(ids(records)) - set(ids(rest))
    fleet.start("append")
    fleet.settle()
    for kind in ("stored", "activities"):
        assert [event["id"] for event in of_case(fleet, kind, case)] == ids(records)
    assert [stored_event_id(event["_id"]) for event in stored(fleet, case)] == ids(records)
