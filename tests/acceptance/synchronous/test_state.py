"""The state that a command is decided on: how it is read, built and saved."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from eventfleet.deciders.outcomes import Accepted, Failed, Rejected, Unavailable
from eventfleet.service.event_service import EventService
from eventfleet.states import latest_states
from eventfleet.stores.contracts import Snapshot, SnapshotStore
from tests.acceptance.fleet_kinds import servers_only
from tests.acceptance.synchronous.account_fleet import (
    Purses,
    PursesOnServers,
    about,
    deposit,
    kept,
    opened,
    snapshot_of,
    stored,
    withdraw,
)

# Manager ->> Manager: get validator


@servers_only("MongoDB's profiler")
async def test_manager_without_validator_passes_and_builds_no_state(
    service: EventService, fleet: Purses, purse: str
) -> None:
    with fleet.profiled():
        assert isinstance(await service.send(purse, "Note", {"text": "a"}), Accepted)
        assert about(fleet, "snapshots", purse) == []
    assert isinstance(await service.send(purse, "Note", {"text": "can't be folded"}), Accepted)
    assert isinstance(await service.send(purse, "Note", {"text": "b"}), Accepted)
    assert [event["version"] for event in kept(fleet, purse)] == [1, 2, 3]


# Manager ->> Querier: get latest State; Querier ->> SnapshotStorage: get snapshot


async def test_querier_gets_snapshot(fleet: Purses, purse: str) -> None:
    async with opened(fleet) as first:
        await deposit(first, purse, 10)
    snapshot = await snapshot_of(fleet, purse, 1)
    fleet.snapshots.update_one({"_id": snapshot["_id"]}, {"$set": {"state.cents": 1_000}})
    async with opened(fleet) as second:
        assert await withdraw(second, purse, 2_000) == Rejected("there are only 1000")
    fleet.snapshots.update_one({"_id": snapshot["_id"]}, {"$set": {"state.cents": 10}})


@servers_only("MongoDB's profiler")
@pytest.mark.parametrize(("short", "reads"), [(3, [0]), (2, [0, 1])])
async def test_querier_gets_events_after_snapshot(
    fleet: Purses, purse: str, monkeypatch: pytest.MonkeyPatch, short: int, reads: list[int]
) -> None:
    """A short history is read whole, beside the snapshot."""
    monkeypatch.setattr(latest_states, "SHORT_HISTORY_EVENTS", short)
    async with opened(fleet) as first:
        for version in (1, 2, 3):
            await deposit(first, purse, 10)
            await snapshot_of(fleet, purse, version)
    fleet.snapshots.delete_many({"aggregate_id": purse, "version": {"$gt": 1}})
    async with opened(fleet) as second:
        with fleet.profiled():
            assert await withdraw(second, purse, 100) == Rejected("there are only 30")
        queries = events_queries(fleet, purse)
        for after, query in zip(reads, queries, strict=True):
            assert {"version": {"$gt": after}, "aggregate_id": purse} in query


@servers_only("MongoDB's profiler")
async def test_querier_without_snapshot_gets_all_events(fleet: Purses, purse: str) -> None:
    async with opened(fleet) as first:
        for _ in range(3):
            await deposit(first, purse, 10)
        await snapshot_of(fleet, purse, 3)
    fleet.snapshots.delete_many({"aggregate_id": purse})
    async with opened(fleet) as second:
        with fleet.profiled():
            assert await withdraw(second, purse, 100) == Rejected("there are only 30")
        (query,) = events_queries(fleet, purse)
        assert {"version": {"$gt": 0}, "aggregate_id": purse} in query


def events_queries(fleet: Purses, purse: str) -> list[list[dict[str, Any]]]:
    """The alternatives of each query for a purse's latest state that was noted."""
    filters = [each.get("filter", {}) for each in fleet.queries("events")]
    about_purse = [each for each in filters if purse in json.dumps(each, default=str)]
    return [list(each["$or"]) for each in about_purse if "$or" in each]


# Querier ->> Manager: state or error; EventService ->> Provider: error


@servers_only("a MongoDB that refuses")
async def test_state_that_cant_be_read_is_an_error_for_provider(
    fleet: PursesOnServers, purse: str
) -> None:
    async with opened(fleet) as service:
        with fleet.store.failing("find", "aggregate", errorCode=50):
            outcome = await deposit(service, purse, command_id="c", timeout=3)
        assert isinstance(outcome, Unavailable)
        assert kept(fleet, purse) == []
        assert isinstance(await deposit(service, purse, command_id="c"), Accepted)


async def test_state_that_cant_be_replayed_is_an_error_that_names_the_event(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await service.send(purse, "Note", {"text": "can't be folded"})
    outcome = await deposit(service, purse)
    assert isinstance(outcome, Failed)
    assert "version 1, Noted can't be replayed" in outcome.reason
    assert "ValueError: as it says" in outcome.details


# Manager ->> Manager: replay events; Manager --) Commander: update state


async def test_commander_saves_snapshot_of_the_state_that_was_built(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    await withdraw(service, purse, 3)
    assert (await snapshot_of(fleet, purse, 2))["state"] == {"cents": 7}


async def test_an_answer_does_not_wait_for_the_snapshot(
    service: EventService, fleet: Purses, monkeypatch: pytest.MonkeyPatch, purse: str
) -> None:
    save, answered = fleet.snapshot_store.save, asyncio.Event()

    async def save_then(store: SnapshotStore, snapshots: Sequence[Snapshot]) -> None:
        await answered.wait()
        await save(store, snapshots)

    monkeypatch.setattr(fleet.snapshot_store, "save", save_then)
    for _ in range(3):
        assert isinstance(await deposit(service, purse), Accepted)
    assert fleet.snapshots.count_documents({"aggregate_id": purse}) == 0
    answered.set()
    assert (await snapshot_of(fleet, purse, 3))["state"] == {"cents": 30}


# Manager ->> Manager: validate; EventService ->> Provider: failure


async def test_no_pass_is_a_failure_with_the_rules_reason(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    assert await withdraw(service, purse, 11) == Rejected("there are only 10")
    assert isinstance(await withdraw(service, purse, 10), Accepted)
    assert [event["type"] for event in kept(fleet, purse)] == ["Deposited", "Withdrawn"]


# What it costs


@servers_only("MongoDB's profiler")
async def test_a_state_in_memory_costs_one_write(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    await snapshot_of(fleet, purse, 1)
    await stored(fleet, purse, 1)
    before = len(about(fleet, "events", purse))
    with fleet.profiled():
        assert isinstance(await withdraw(service, purse, 3), Accepted)
    operations = [next(iter(each)) for each in about(fleet, "events", purse)[before:]]
    assert operations[: operations.index("insert") + 1] == ["insert"]
    assert operations.count("insert") == 1
    assert not any(map(reads_state, about(fleet, "snapshots", purse)))


def reads_state(operation: dict[str, Any]) -> bool:
    """Whether it is a read of a snapshot's state; a save looks up only which are too many."""
    return "aggregate" in operation or "state_version" in operation.get("filter", {})


# All of it


def test_all_is_as_it_should_be(fleet: Purses) -> None:
    assert fleet.audited(problems=True) == ([], 0, 0)
