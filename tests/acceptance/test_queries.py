"""Queries of events, snapshots and states, arrow by arrow: the real command, on real servers
and on a file."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonpatch import JsonPatch

from eventfleet.stores.mongo.documents import event_id as stored_event_id
from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_kinds import servers_only
from tests.acceptance.logged_case import CASE, TYPES, events, snapshots, state
from tests.acceptance.logged_case import fleet as fleet


@pytest.fixture
def restored(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, with its snapshots put back afterwards."""
    before = list(fleet.snapshots.find())
    yield fleet
    fleet.snapshots.delete_many({})
    fleet.snapshots.insert_many(before)


def latest(fleet: Fleet, *options: str) -> Any:
    (found,) = fleet.json_lines("state", "process_log", CASE, *options)
    return found


# Get events


def test_provider_gets_events_from_service(fleet: Fleet) -> None:
    printed = fleet.run("events", "process_log", CASE, "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [event["version"] for event in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["type"] for event in found] == TYPES
    assert [event["data"] for event in found] == [{"by": f"person {n}"} for n in range(1, 8)]
    assert [event["type"] for event in events(fleet, "--after", "2", "--limit", "2")] == TYPES[2:4]
    assert [event["version"] for event in events(fleet, "--type", "check")] == [2, 3]


def test_service_queries_event_storage(fleet: Fleet) -> None:
    """What is in the storage is the answer: an event put away there is not told."""
    last = fleet.events.find_one_and_delete({"aggregate_id": CASE, "version": 7})
    assert last
    try:
        assert [event["type"] for event in events(fleet)] == TYPES[:6]
    finally:
        fleet.events.insert_one(last)


def test_event_storage_answers_with_events(fleet: Fleet) -> None:
    stored = fleet.events.find({"aggregate_id": CASE}).sort("version", 1)
    assert [event["id"] for event in events(fleet)] == [
        stored_event_id(event["_id"]) for event in stored
    ]


# Get snapshot


def test_provider_gets_snapshot_from_service(fleet: Fleet) -> None:
    found = fleet.json("snapshot", "process_log", CASE)
    assert (found["aggregate_id"], found["version"], found["state"]) == (CASE, 5, state(5))


def test_service_queries_snapshot_storage(restored: Fleet) -> None:
    """The snapshot is read, not made: without one the answer is that there is none."""
    restored.snapshots.delete_many({"aggregate_id": CASE})
    restored.run("snapshot", "process_log", CASE, status=1)
    assert snapshots(restored, CASE) == []


def test_snapshot_storage_answers_with_snapshot(restored: Fleet) -> None:
    mark = {"$set": {"state.last": "as the storage has it"}}
    restored.snapshots.update_one({"aggregate_id": CASE}, mark)
    (found,) = restored.json_lines("snapshot", "process_log", CASE)
    assert found["state"] == state(5) | {"last": "as the storage has it"}


# Get latest state


def test_provider_gets_latest_state_from_service(restored: Fleet) -> None:
    found = restored.json("state", "process_log", CASE)
    assert found == {"aggregate_id": CASE, "version": 7, "state": state(7)}


def test_service_queries_snapshot_storage_for_the_latest_state(restored: Fleet) -> None:
    """With the first events put away, only the snapshot tells of them."""
    gone = {"aggregate_id": CASE, "version": {"$lte": 5}}
    removed = list(restored.events.find(gone))
    restored.events.delete_many(gone)
    try:
        assert latest(restored)["state"] == state(7)
    finally:
        restored.events.insert_many(removed)


def test_snapshot_storage_answers_with_the_snapshot_to_replay_from(restored: Fleet) -> None:
    restored.snapshots.update_one({"aggregate_id": CASE}, {"$set": {"state.events": 105}})
    assert latest(restored)["state"] == state(7) | {"events": 107}


@servers_only("MongoDB's profiler")
def test_service_gets_events_after_snapshot(restored: Fleet) -> None:
    with restored.profiled():
        latest(restored)
    asked = [query["filter"] for query in restored.queries("events") if "filter" in query]
    assert asked == [{"aggregate_id": CASE, "version": {"$gt": 5}}]


def test_event_storage_answers_with_the_events_after_the_snapshot(restored: Fleet) -> None:
    mark = {"$set": {"data.by": "as the storage has it"}}
    restored.events.update_one({"aggregate_id": CASE, "version": 7}, mark)
    try:
        assert latest(restored)["state"]["attributes"] == {"by": "as the storage has it"}
    finally:
        back = {"$set": {"data.by": "person 7"}}
        restored.events.update_one({"aggregate_id": CASE, "version": 7}, back)


@pytest.mark.parametrize("version", [1, 4, 5, 6, 7])
def test_service_replays_events(fleet: Fleet, version: int) -> None:
    found = latest(fleet, "--version", str(version))
    assert found == {"aggregate_id": CASE, "version": version, "state": state(version)}


# Time travel


@pytest.mark.parametrize(
    ("at", "version"),
    [
        ("2024-03-01T10:00:00Z", 1),
        ("2024-03-06T09:59:59.999Z", 5),
        ("2024-03-06T19:00:00+09:00", 6),
        ("2030-01-01T00:00:00Z", 7),
    ],
)
def test_the_state_at_a_time_has_the_events_until_then(fleet: Fleet, at: str, version: int) -> None:
    found = latest(fleet, "--at", at)
    assert found == {"aggregate_id": CASE, "version": version, "state": state(version)}


def test_there_is_no_state_before_the_first_event(fleet: Fleet) -> None:
    fleet.run("state", "process_log", CASE, "--at", "2024-03-01T09:59:59Z", status=1)
    fleet.run("state", "process_log", CASE, "--at", "yesterday", status=1)


def test_the_difference_between_two_versions_leads_from_one_state_to_the_other(
    fleet: Fleet,
) -> None:
    for versions, (first, second) in {
        ("2", "6"): (2, 6),
        ("6", "2"): (6, 2),
        ("5",): (5, 7),
    }.items():
        (found,) = fleet.json_lines("diff", "process_log", CASE, *versions)
        assert (found["first"], found["second"]) == (first, second)
        assert JsonPatch(found["patch"]).apply(state(first)) == state(second)
    fleet.run("diff", "process_log", CASE, "2", "8", status=1)
    fleet.run("diff", "process_log", "case-0", "0", status=1)


# When snapshots are saved


def test_a_query_of_the_latest_state_saves_a_snapshot(restored: Fleet) -> None:
    latest(restored)
    assert [each["version"] for each in snapshots(restored, CASE)] == [5, 7]
    assert snapshots(restored, CASE)[-1]["state"] == state(7)
    latest(restored)
    assert [each["version"] for each in snapshots(restored, CASE)] == [5, 7]


def test_a_query_of_an_earlier_state_saves_none(restored: Fleet) -> None:
    latest(restored, "--version", "6")
    assert [each["version"] for each in snapshots(restored, CASE)] == [5]


def test_by_rule_there_is_a_snapshot_only_where_it_is_due(fleet: Fleet) -> None:
    assert [each["version"] for each in snapshots(fleet, CASE)] == [5]
    assert snapshots(fleet, "case-2") == []
