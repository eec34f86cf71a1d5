"""The events of a command: their numbers, and how they are put."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.outcomes import Accepted, Conflict, Rejected, Repeated, Unavailable
from eventfleet.service.event_service import EventService
from eventfleet.stores.contracts import EventStore
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo.domain_metadata import SCHEMA
from eventfleet.topics.event import EventRecord, event_id
from tests.acceptance.fleet_kinds import servers_only
from tests.acceptance.synchronous.account_fleet import (
    Purses,
    PursesOnServers,
    deposit,
    kept,
    opened,
    withdraw,
)

# EventService with another number of partitions


async def test_a_service_with_another_number_of_partitions_does_not_start(fleet: Purses) -> None:
    refusal = r"EVENTFLEET_PARTITIONS is 5, but topic purses\.events has 4 partitions"
    with pytest.raises(Misconfigured, match=refusal):
        async with opened(fleet, partitions=5):
            pass


# Commander ->> Manager: event no or error


@servers_only("MongoDB's indexes")
async def test_a_service_that_is_first_at_a_store_prepares_it(fleet: Purses) -> None:
    database = f"{fleet.prefix}-first"
    async with opened(fleet, mongo_database=database):
        pass
    first = fleet.events.database.client[database]
    assert first["purses.events"].index_information()["versions"]["unique"]
    assert first["domains"].find_one({"_id": "purses"})["schema"] == SCHEMA
    first.client.drop_database(database)


async def test_each_number_is_dispensed_once(fleet: Purses, purse: str) -> None:
    async with opened(fleet) as one, opened(fleet) as other:
        await deposit(one, purse, 12)
        outcomes = await asyncio.gather(
            *(withdraw(each, purse, 1) for each in (one, other) for _ in range(10))
        )
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert sorted(outcome.version for outcome in accepted) == list(range(2, 2 + len(accepted)))
    assert {type(outcome) for outcome in outcomes} <= {Accepted, Rejected, Conflict}
    assert len(accepted) == 12
    assert len(kept(fleet, purse)) == 13


async def test_numbers_that_are_taken_each_time_are_a_conflict_for_provider(
    service: EventService, fleet: Purses, monkeypatch: pytest.MonkeyPatch, purse: str
) -> None:
    """Between the read and the put of each try another puts an event."""
    await deposit(service, purse)
    put_each = fleet.event_store.put_each

    async def beaten(store: EventStore, events: Sequence[tuple[EventRecord, int]]) -> Any:
        ((event, partition),) = events
        other = replace(event, id=f"other-{event.version}", type="Noted", data={"text": ""})
        await put_each(store, [(other, partition)])
        return await put_each(store, events)

    monkeypatch.setattr(fleet.event_store, "put_each", beaten)
    outcome = await deposit(service, purse, command_id="c")
    monkeypatch.undo()
    assert isinstance(outcome, Conflict)
    assert {event["type"] for event in kept(fleet, purse)[1:]} == {"Noted"}
    assert isinstance(await deposit(service, purse, command_id="c"), Accepted)


# Manager ->> Manager: make event


async def test_manager_makes_event(service: EventService, fleet: Purses, purse: str) -> None:
    await deposit(
        service, purse, command_id="c-1", correlation_id="k", actor="ann", traceparent="00-1-2-03"
    )
    (event,) = kept(fleet, purse)
    assert event["_id"] == event_id("purses", purse, "c-1")
    assert (event["type"], event["data"], event["version"]) == ("Deposited", {"cents": 10}, 1)
    assert (event["correlation_id"], event["causation_id"]) == ("k", "c-1")
    assert (event["actor"], event["traceparent"]) == ("ann", "00-1-2-03")


# Manager ->> Commander: put event; Commander ->> Manager: success or error


async def test_events_of_one_command_are_put_together(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    outcome = await withdraw(service, purse, 3, fee=1, command_id="w")
    assert isinstance(outcome, Accepted)
    assert outcome.version == 3
    ids = [event["_id"] for event in kept(fleet, purse)[1:]]
    assert ids == [event_id("purses", purse, "w", index) for index in (0, 1)]


@servers_only("a MongoDB that refuses")
async def test_of_events_that_cant_all_be_put_none_is(
    service: EventService, fleet: PursesOnServers, purse: str
) -> None:
    await deposit(service, purse, 10)
    with fleet.store.failing("commitTransaction", errorCode=50):
        outcome = await withdraw(service, purse, 3, fee=1, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    assert len(kept(fleet, purse)) in (1, 3)
    again = await withdraw(service, purse, 3, fee=1, command_id="w")
    assert isinstance(again, Accepted | Repeated)
    assert again.version == 3
    assert len(kept(fleet, purse)) == 3


@servers_only("a MongoDB that refuses")
async def test_put_that_fails_is_an_error_for_provider_and_its_repeat_leaves_one_event(
    service: EventService, fleet: PursesOnServers, purse: str
) -> None:
    await deposit(service, purse, 10)
    with fleet.store.failing("insert", errorCode=50):
        outcome = await withdraw(service, purse, 3, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    assert isinstance(await withdraw(service, purse, 3, command_id="w"), Accepted | Repeated)
    assert [event["version"] for event in kept(fleet, purse)] == [1, 2]


@servers_only("a MongoDB that refuses")
async def test_put_whose_fate_is_unknown_is_found_by_its_repeat(
    service: EventService, fleet: PursesOnServers, purse: str
) -> None:
    await deposit(service, purse, 10)
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with fleet.store.failing("insert", writeConcernError=unsure):
        outcome = await withdraw(service, purse, 3, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    again = await withdraw(service, purse, 3, command_id="w")
    assert isinstance(again, Repeated)
    assert again.version == 2
    assert len(kept(fleet, purse)) == 2


# All of it


def test_all_is_as_it_should_be(fleet: Purses) -> None:
    assert fleet.audited() == ([], 0, 0)
