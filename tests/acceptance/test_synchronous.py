"""A synchronous request, arrow by arrow, on real servers: each test is named by its arrow."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
import pytest_asyncio
from msgspec.structs import replace

from protocols.intents import event_id
from protocols.outcomes import (
    Accepted,
    Conflict,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from service.events import EventService
from stores.contracts import Snapshot
from stores.mongo.events import MongoEvents
from stores.mongo.snapshots import MongoSnapshots
from tests.acceptance.commanding import Commanded
from tests.conftest import running
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from topics.errors import Unreadable
from topics.event import EventRecord
from workers.connect import chosen
from workers.deciders import event_service

MODULE = """
from msgspec.structs import replace

from eventfleet import Command, Domain, Emits, Event, Rejection, State


class Deposited(Event):
    cents: int


class Withdrawn(Event):
    cents: int


class Charged(Event):
    cents: int


class Noted(Event):
    text: str


class Purse(State):
    cents: int = 0


def evolve(purse, event):
    match event:
        case Deposited(cents=cents):
            return replace(purse, cents=purse.cents + cents)
        case Withdrawn(cents=cents) | Charged(cents=cents):
            return replace(purse, cents=purse.cents - cents)
        case Noted(text="can't be folded"):
            raise ValueError("as it says")
    return purse


class Deposit(Command):
    cents: int


class Withdraw(Command):
    cents: int
    fee: int = 0


class Note(Command):
    text: str = ""


def decide(purse, command):
    match command:
        case Deposit(cents=cents):
            return Deposited(cents=cents)
        case Withdraw(cents=cents, fee=fee):
            if cents + fee > purse.cents:
                return Rejection(f"there are only {purse.cents}")
            return [Withdrawn(cents=cents), Charged(cents=fee)] if fee else Withdrawn(cents=cents)


purses = Domain(
    "purses",
    state=Purse,
    evolve=evolve,
    events=[Deposited, Withdrawn, Charged, Noted],
    commands=[Deposit, Withdraw, Emits(Note, Noted)],
    decide=decide,
)
"""
PLACE = "purses.events/"


class Refusing(MongoDB):
    """Takes orders to fail."""

    def command(self) -> Sequence[str | Path]:
        return (*super().command(), "--enable-test-commands")

    @contextmanager
    def failing(self, *commands: str, times: int | None = None, **how: Any) -> Iterator[None]:
        """It fails these commands of ours."""
        mode: Any = {"times": times} if times else "alwaysOn"
        data = {"failCommands": list(commands), "appName": "eventfleet", **how}
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            order = {"configureFailPoint": "failCommand"}
            client.admin.command({**order, "mode": mode, "data": data})
            try:
                yield
            finally:
                client.admin.command({**order, "mode": "off"})


@pytest.fixture(scope="module")
def own_mongo() -> Iterator[Refusing]:
    with running(Refusing) as server:
        assert isinstance(server, Refusing)
        yield server


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[Kafka]:
    with running(Kafka) as server:
        assert isinstance(server, Kafka)
        yield server


@pytest.fixture(scope="module")
def fleet(
    own_kafka: Kafka,
    own_mongo: Refusing,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Commanded]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "purses.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    servers = own_kafka.address, own_mongo.url, redis_url
    with Commanded(servers, folder, "purses", MONGO_TIMEOUT="4") as fleet:
        fleet.start("append")
        yield fleet
    sys.path.remove(str(folder))


def opened(fleet: Commanded) -> AbstractAsyncContextManager[EventService]:
    """A service, with nothing in its memory."""
    return event_service(fleet.settings, chosen(fleet.settings, ["purses"])["purses"])


@pytest_asyncio.fixture
async def service(fleet: Commanded) -> AsyncIterator[EventService]:
    async with opened(fleet) as service:
        yield service


@pytest.fixture
def purse(request: pytest.FixtureRequest) -> str:
    """An aggregate of the test's own."""
    return f"purse-{request.node.name}"


async def deposit(service: EventService, purse: str, cents: int = 10, **more: Any) -> Outcome:
    return await service.send(purse, "Deposit", {"cents": cents}, **more)


async def withdraw(service: EventService, purse: str, cents: int, **more: Any) -> Outcome:
    fee = more.pop("fee", 0)
    return await service.send(purse, "Withdraw", {"cents": cents, "fee": fee}, **more)


def kept(fleet: Commanded, purse: str) -> list[dict[str, Any]]:
    """The purse's documents in the event storage, by version."""
    return list(fleet.events.find({"aggregate_id": purse}).sort("version", 1))


async def snapshot_of(fleet: Commanded, purse: str, version: int) -> dict[str, Any]:
    """Its snapshot of a version, as soon as it is there."""
    async with asyncio.timeout(90):
        while True:
            found = fleet.snapshots.find_one({"aggregate_id": purse, "version": version})
            if found:
                return dict(found)
            await asyncio.sleep(0.05)


async def stored(fleet: Commanded, purse: str, count: int) -> list[dict[str, Any]]:
    """Its events as `.stored` has them, once there are so many."""
    async with asyncio.timeout(90):
        while True:
            passed = await asyncio.to_thread(fleet.passed, "stored")
            events = [event for event in passed if event["subject"] == purse]
            if len(events) >= count:
                return events
            await asyncio.sleep(0.1)


def about(fleet: Commanded, kind: str, purse: str) -> list[dict[str, Any]]:
    """The operations on a collection, while they were noted, that have to do with a purse; and
    the inserts, which are noted without their documents."""
    noted = fleet.queries(kind)
    return [each for each in noted if "insert" in each or purse in json.dumps(each, default=str)]


# Provider ->> EventService: request event


async def test_provider_requests_event(service: EventService, fleet: Commanded, purse: str) -> None:
    outcome = await deposit(service, purse, command_id="c-1")
    assert isinstance(outcome, Accepted)
    assert (outcome.event_id, outcome.version) == (event_id("purses", purse, "c-1"), 1)
    with pytest.raises(Unreadable, match=r"data\.cents"):
        await service.send(purse, "Deposit", {"cents": "ten"})
    with pytest.raises(Unreadable, match="type: 'Burn' is not a command"):
        await service.send(purse, "Burn", {})
    assert len(kept(fleet, purse)) == 1


# Manager ->> Manager: get validator


async def test_manager_without_validator_passes_and_builds_no_state(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    with fleet.profiled():
        assert isinstance(await service.send(purse, "Note", {"text": "a"}), Accepted)
        assert about(fleet, "snapshots", purse) == []
    assert isinstance(await service.send(purse, "Note", {"text": "can't be folded"}), Accepted)
    assert isinstance(await service.send(purse, "Note", {"text": "b"}), Accepted)
    assert [event["version"] for event in kept(fleet, purse)] == [1, 2, 3]


# Manager ->> Querier: get latest State; Querier ->> SnapshotStorage: get snapshot


async def test_querier_gets_snapshot(fleet: Commanded, purse: str) -> None:
    async with opened(fleet) as first:
        await deposit(first, purse, 10)
    snapshot = await snapshot_of(fleet, purse, 1)
    fleet.snapshots.update_one({"_id": snapshot["_id"]}, {"$set": {"state.cents": 1_000}})
    async with opened(fleet) as second:
        assert await withdraw(second, purse, 2_000) == Rejected("there are only 1000")
    fleet.snapshots.update_one({"_id": snapshot["_id"]}, {"$set": {"state.cents": 10}})


async def test_querier_gets_events_after_snapshot(fleet: Commanded, purse: str) -> None:
    async with opened(fleet) as first:
        for version in (1, 2, 3):
            await deposit(first, purse, 10)
            await snapshot_of(fleet, purse, version)
    fleet.snapshots.delete_many({"aggregate_id": purse, "version": {"$gt": 1}})
    async with opened(fleet) as second:
        with fleet.profiled():
            assert await withdraw(second, purse, 100) == Rejected("there are only 30")
        (query,) = [
            each for each in fleet.queries("events") if purse in json.dumps(each, default=str)
        ]
        assert {"version": {"$gt": 1}, "aggregate_id": purse} in query["filter"]["$or"]


async def test_querier_without_snapshot_gets_all_events(fleet: Commanded, purse: str) -> None:
    async with opened(fleet) as first:
        for _ in range(3):
            await deposit(first, purse, 10)
        await snapshot_of(fleet, purse, 3)
    fleet.snapshots.delete_many({"aggregate_id": purse})
    async with opened(fleet) as second:
        assert await withdraw(second, purse, 100) == Rejected("there are only 30")


# Querier ->> Manager: state or error; EventService ->> Provider: error


async def test_state_that_cant_be_read_is_an_error_for_provider(
    fleet: Commanded, own_mongo: Refusing, purse: str
) -> None:
    async with opened(fleet) as service:
        with own_mongo.failing("find", "aggregate", errorCode=50):
            outcome = await deposit(service, purse, command_id="c", timeout=3)
        assert isinstance(outcome, Unavailable)
        assert kept(fleet, purse) == []
        assert isinstance(await deposit(service, purse, command_id="c"), Accepted)


async def test_state_that_cant_be_replayed_is_an_error_that_names_the_event(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await service.send(purse, "Note", {"text": "can't be folded"})
    outcome = await deposit(service, purse)
    assert isinstance(outcome, Unavailable)
    assert "version 1, Noted: ValueError: as it says" in outcome.reason


# Manager ->> Manager: replay events; Manager --) Commander: update state


async def test_commander_saves_snapshot_of_the_state_that_was_built(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    await withdraw(service, purse, 3)
    assert (await snapshot_of(fleet, purse, 2))["state"] == {"cents": 7}


async def test_an_answer_does_not_wait_for_the_snapshot(
    service: EventService, fleet: Commanded, monkeypatch: pytest.MonkeyPatch, purse: str
) -> None:
    save, answered = MongoSnapshots.save, asyncio.Event()

    async def save_then(store: MongoSnapshots, snapshots: Sequence[Snapshot]) -> None:
        await answered.wait()
        await save(store, snapshots)

    monkeypatch.setattr(MongoSnapshots, "save", save_then)
    for _ in range(3):
        assert isinstance(await deposit(service, purse), Accepted)
    assert fleet.snapshots.count_documents({"aggregate_id": purse}) == 0
    answered.set()
    assert (await snapshot_of(fleet, purse, 3))["state"] == {"cents": 30}


# Manager ->> Manager: validate; EventService ->> Provider: failure


async def test_no_pass_is_a_failure_with_the_rules_reason(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    assert await withdraw(service, purse, 11) == Rejected("there are only 10")
    assert isinstance(await withdraw(service, purse, 10), Accepted)
    assert [event["type"] for event in kept(fleet, purse)] == ["Deposited", "Withdrawn"]


# Commander ->> Manager: event no or error


async def test_each_number_is_dispensed_once(fleet: Commanded, purse: str) -> None:
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
    service: EventService, fleet: Commanded, monkeypatch: pytest.MonkeyPatch, purse: str
) -> None:
    """Between the read and the put of each try another puts an event."""
    await deposit(service, purse)
    put_each = MongoEvents.put_each

    async def beaten(store: MongoEvents, events: Sequence[tuple[EventRecord, int]]) -> Any:
        ((event, partition),) = events
        other = replace(event, id=f"other-{event.version}", type="Noted", data={"text": ""})
        await put_each(store, [(other, partition)])
        return await put_each(store, events)

    monkeypatch.setattr(MongoEvents, "put_each", beaten)
    outcome = await deposit(service, purse, command_id="c")
    monkeypatch.undo()
    assert isinstance(outcome, Conflict)
    assert {event["type"] for event in kept(fleet, purse)[1:]} == {"Noted"}
    assert isinstance(await deposit(service, purse, command_id="c"), Accepted)


# Manager ->> Manager: make event


async def test_manager_makes_event(service: EventService, fleet: Commanded, purse: str) -> None:
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
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    outcome = await withdraw(service, purse, 3, fee=1, command_id="w")
    assert isinstance(outcome, Accepted)
    assert outcome.version == 3
    ids = [event["_id"] for event in kept(fleet, purse)[1:]]
    assert ids == [event_id("purses", purse, "w", index) for index in (0, 1)]


async def test_of_events_that_cant_all_be_put_none_is(
    service: EventService, fleet: Commanded, own_mongo: Refusing, purse: str
) -> None:
    await deposit(service, purse, 10)
    with own_mongo.failing("commitTransaction", errorCode=50):
        outcome = await withdraw(service, purse, 3, fee=1, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    assert len(kept(fleet, purse)) in (1, 3)
    again = await withdraw(service, purse, 3, fee=1, command_id="w")
    assert isinstance(again, Accepted | Repeated)
    assert again.version == 3
    assert len(kept(fleet, purse)) == 3


async def test_put_that_fails_is_an_error_for_provider_and_its_repeat_leaves_one_event(
    service: EventService, fleet: Commanded, own_mongo: Refusing, purse: str
) -> None:
    await deposit(service, purse, 10)
    with own_mongo.failing("insert", errorCode=50):
        outcome = await withdraw(service, purse, 3, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    assert isinstance(await withdraw(service, purse, 3, command_id="w"), Accepted | Repeated)
    assert [event["version"] for event in kept(fleet, purse)] == [1, 2]


async def test_put_whose_fate_is_unknown_is_found_by_its_repeat(
    service: EventService, fleet: Commanded, own_mongo: Refusing, purse: str
) -> None:
    await deposit(service, purse, 10)
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with own_mongo.failing("insert", writeConcernError=unsure):
        outcome = await withdraw(service, purse, 3, command_id="w", timeout=3)
    assert isinstance(outcome, Unavailable)
    again = await withdraw(service, purse, 3, command_id="w")
    assert isinstance(again, Repeated)
    assert again.version == 2
    assert len(kept(fleet, purse)) == 2


# Manager ->> MessageStream: produce event


async def test_manager_produces_event_to_the_stream(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    await withdraw(service, purse, 3, fee=1)
    events = await stored(fleet, purse, 3)
    assert [(event["version"], event["type"]) for event in events] == [
        (1, "Deposited"),
        (2, "Withdrawn"),
        (3, "Charged"),
    ]
    assert all(event["offset"] >= 0 for event in kept(fleet, purse))


async def test_a_stream_that_is_down_leaves_the_event_to_the_sweep(
    service: EventService, fleet: Commanded, own_kafka: Kafka, purse: str
) -> None:
    await deposit(service, purse, 10)
    process = own_kafka._process
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        outcome = await withdraw(service, purse, 3, timeout=3)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert isinstance(outcome, Accepted)
    assert (outcome.version, outcome.published) == (2, False)
    events = await stored(fleet, purse, 2)
    assert [event["version"] for event in events] == [1, 2]


# EventService ->> Provider: success


async def test_event_service_answers_provider(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    first = await withdraw(service, purse, 10, command_id="w")
    assert isinstance(first, Accepted)
    assert first.published
    repeated = Repeated(first.event_id, first.place, 2)
    assert await withdraw(service, purse, 10, command_id="w") == repeated
    async with opened(fleet) as other:
        assert await withdraw(other, purse, 10, command_id="w") == repeated
        reused = await withdraw(other, purse, 9, command_id="w")
    assert reused == IdReused("the command's id was used for another, which made Withdrawn")
    assert len(await stored(fleet, purse, 2)) == 2


# What it costs


async def test_a_state_in_memory_costs_one_read_and_one_write(
    service: EventService, fleet: Commanded, purse: str
) -> None:
    await deposit(service, purse, 10)
    await snapshot_of(fleet, purse, 1)
    await stored(fleet, purse, 1)
    before = len(about(fleet, "events", purse))
    with fleet.profiled():
        assert isinstance(await withdraw(service, purse, 3), Accepted)
    operations = [next(iter(each)) for each in about(fleet, "events", purse)[before:]]
    assert operations[: operations.index("insert") + 1] == ["find", "insert"]
    assert operations.count("insert") == 1
    assert not any(map(reads_state, about(fleet, "snapshots", purse)))


def reads_state(operation: dict[str, Any]) -> bool:
    """Whether it is a read of a snapshot's state; a save looks up only which are too many."""
    return "aggregate" in operation or "state_version" in operation.get("filter", {})


# All of it


def test_all_is_as_it_should_be(fleet: Commanded) -> None:
    fleet.settle("append")
    report = fleet.json("audit", "purses", status=0)
    assert (report["violations"], report["dead_letters"], report["superseded"]) == ([], 0, 0)
