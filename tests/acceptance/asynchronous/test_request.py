"""The request of an event: what Provider, EventService, EventMarker and MessageStream exchange."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_asyncio

from eventfleet.deciders.outcomes import Accepted, Rejected, Repeated, Unavailable
from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.event_services import event_service
from eventfleet.service.event_service import EventService
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import event_id
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet, servers_only

MODULE = """
from eventfleet import START, Command, Domain, Emits, Event, State


class Opened(Event):
    title: str


class Assigned(Event):
    to: str


class Noted(Event):
    text: str = ""


class Closed(Event):
    pass


class Ticket(State):
    events: int = 0


def evolve(ticket, event):
    return Ticket(events=ticket.events + 1)


class Open(Command):
    title: str


class Assign(Command):
    to: str


class Note(Command):
    text: str = ""


class Close(Command):
    pass


tickets = Domain(
    "tickets",
    state=Ticket,
    evolve=evolve,
    events=[Opened, Assigned, Noted, Closed],
    commands=[
        Emits(Open, Opened, after=frozenset({START})),
        Emits(Assign, Assigned, after=frozenset({Opened, Noted})),
        Emits(Note, Noted),
        Emits(Close, Closed, after=frozenset({Assigned, Noted})),
    ],
)
"""
OPEN = {"title": "it smokes"}


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandFleet]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "tickets.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    with open_command_fleet(request, folder, "tickets") as fleet:
        fleet.start("append")
        yield fleet
    sys.path.remove(str(folder))


def opened(fleet: CommandFleet) -> AbstractAsyncContextManager[EventService]:
    return event_service(fleet.settings, select_domains(fleet.settings, ["tickets"])["tickets"])


@pytest_asyncio.fixture
async def service(fleet: CommandFleet) -> AsyncIterator[EventService]:
    async with opened(fleet) as service:
        yield service


@pytest.fixture
def ticket(request: pytest.FixtureRequest) -> str:
    """An aggregate of the test's own."""
    return f"ticket-{request.node.name}"


def of(ticket: str, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["subject"] == ticket]


async def logged(fleet: CommandFleet, ticket: str) -> list[dict[str, Any]]:
    """The events of a ticket that the stream has by now, in order."""
    return of(ticket, await asyncio.to_thread(fleet.topic_events, "events"))


async def stored(fleet: CommandFleet, ticket: str, count: int) -> list[dict[str, Any]]:
    """Its events as they have been stored, once there are so many."""
    async with asyncio.timeout(90):
        while True:
            events = of(ticket, await asyncio.to_thread(fleet.topic_events, "stored"))
            if len(events) >= count:
                return events
            await asyncio.sleep(0.1)


async def accepted(service: EventService, ticket: str, *commands: str) -> list[Accepted]:
    outcomes = []
    for command in commands:
        data = {"Open": OPEN, "Assign": {"to": "ann"}}.get(command, {})
        outcome = await service.send(ticket, command, data)
        assert isinstance(outcome, Accepted), outcome
        outcomes.append(outcome)
    return outcomes


# Provider ->> EventService: request event


async def test_provider_requests_event(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    outcome = await service.send(
        ticket, "Open", OPEN, command_id="c", correlation_id="k", actor="ann", traceparent="00-1"
    )
    assert isinstance(outcome, Accepted)
    [event] = await stored(fleet, ticket, 1)
    assert (event["id"], event["type"], event["data"]) == (outcome.event_id, "Opened", OPEN)
    assert (event["causationid"], event["correlationid"]) == ("c", "k")
    assert (event["actor"], event["traceparent"]) == ("ann", "00-1")


async def test_a_request_that_cant_be_read_names_the_field_and_leaves_nothing(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    with pytest.raises(InvalidRecord, match=r"data\.title: is missing"):
        await service.send(ticket, "Open", {})
    assert fleet.marker(ticket) == {}
    assert await logged(fleet, ticket) == []


# EventService ->> EventService: get validator


async def test_event_service_gets_validator(service: EventService, ticket: str) -> None:
    await accepted(service, ticket, "Note", "Note", "Close", "Note")
    assert isinstance(await service.send(ticket, "Open", OPEN), Rejected)


# EventService ->> EventMarker: get marked eventType (with expire)


async def test_event_service_gets_marked_event_type_with_expire(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    await accepted(service, ticket, "Open")
    assert 0 < fleet.marker_seconds(ticket) <= fleet.settings.marker_expiry
    fleet.change_marker(ticket, type="Closed")
    outcome = await service.send(ticket, "Assign", {"to": "ann"})
    assert isinstance(outcome, Rejected), "the marker alone is asked"
    await stored(fleet, ticket, 1)
    fleet.delete_marker(ticket)
    await accepted(service, ticket, "Assign")
    assert isinstance(await service.send(ticket, "Open", OPEN), Rejected)


# EventMarker ->> EventService: eventType


async def test_event_marker_answers_event_type(service: EventService, ticket: str) -> None:
    marked = []
    for command in ("", "Open", "Assign", "Close"):
        if command:
            await accepted(service, ticket, command)
        outcome = await service.send(
            ticket, "Open" if command else "Close", OPEN if command else {}
        )
        assert isinstance(outcome, Rejected)
        marked.append(outcome.marked)
    assert marked == ["", "Opened", "Assigned", "Closed"]


# EventService ->> EventService: validate


async def test_event_service_validates(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    assert await service.send(ticket, "Close", {}) == Rejected(
        "Closed may follow Assigned, Noted, and there is no event", ""
    )
    await accepted(service, ticket, "Open")
    assert await service.send(ticket, "Close", {}) == Rejected(
        "Closed may follow Assigned, Noted, not Opened", "Opened"
    )
    await accepted(service, ticket, "Assign", "Close")
    types = [event["type"] for event in await logged(fleet, ticket)]
    assert types == ["Opened", "Assigned", "Closed"]


# EventService ->> EventMarker: mark eventType


async def test_event_service_marks_event_type(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    [outcome] = await accepted(service, ticket, "Open")
    marker = fleet.marker(ticket)
    assert (marker["type"], marker["last"]) == ("Opened", outcome.event_id)
    assert "pend" not in marker


# EventMarker ->> EventMarker: overwrite marked eventType


async def test_event_marker_overwrites_marked_event_type(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    outcomes = await accepted(service, ticket, "Open", "Assign")
    marker = fleet.marker(ticket)
    assert (marker["type"], marker["last"]) == ("Assigned", outcomes[1].event_id)
    assert isinstance(await service.send(ticket, "Open", OPEN), Rejected)
    after = fleet.marker(ticket)
    assert (after["type"], after["last"]) == ("Assigned", outcomes[1].event_id)


# EventMarker ->> EventService: ok


async def test_event_marker_says_ok_to_one_of_two(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    async with opened(fleet) as other:
        for number in range(20):
            name = f"{ticket}-{number}"
            outcomes = await asyncio.gather(
                service.send(name, "Open", OPEN), other.send(name, "Open", OPEN)
            )
            kinds = sorted(type(outcome).__name__ for outcome in outcomes)
            assert kinds == ["Accepted", "Rejected"]
    subjects = [event["subject"] for event in await asyncio.to_thread(fleet.topic_events, "events")]
    assert [subjects.count(f"{ticket}-{number}") for number in range(20)] == [1] * 20


# EventService ->> EventService: make event


async def test_event_service_makes_event(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    for name, command, data in (("c-1", "Open", OPEN), ("c-2", "Assign", {"to": "ann"})):
        await service.send(ticket, command, data, command_id=name)
    first, second = await stored(fleet, ticket, 2)
    assert [e["id"] for e in (first, second)] == [
        event_id("tickets", ticket, name) for name in ("c-1", "c-2")
    ]
    assert [e["type"] for e in (first, second)] == ["Opened", "Assigned"]
    assert [e["data"] for e in (first, second)] == [OPEN, {"to": "ann"}]
    assert [e["prev"] for e in (first, second)] == ["", first["id"]]
    assert [e["version"] for e in (first, second)] == [1, 2]


# EventService ->> MessageStream: produce event


async def test_event_service_produces_event(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    [outcome] = await accepted(service, ticket, "Open")
    records = await asyncio.to_thread(fleet.kafka.records, "tickets.events")
    [record] = [r for r in records if r.key == ticket.encode()]
    assert json.loads(record.value)["id"] == outcome.event_id
    assert outcome.place == f"tickets.events/{record.partition}"


# EventService ->> Provider: result


async def test_event_service_answers_provider(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    first = await service.send(ticket, "Open", OPEN, command_id="c-1")
    assert isinstance(first, Accepted)
    repeated = Repeated(first.event_id, first.place)
    assert await service.send(ticket, "Open", OPEN, command_id="c-1") == repeated
    assert isinstance(await service.send(ticket, "Close", {}, command_id="c-2"), Rejected)
    await accepted(service, ticket, "Assign")
    assert await service.send(ticket, "Open", OPEN, command_id="c-1") == repeated
    assert isinstance(await service.send(ticket, "Close", {}, command_id="c-2"), Accepted), (
        "a rejection leaves nothing behind: its repeat is judged anew"
    )
    await stored(fleet, ticket, 3)
    other = await service.send(ticket, "Open", {"title": "another"}, command_id="c-1")
    assert isinstance(other, Rejected)
    fleet.forget_markers()
    assert await service.send(ticket, "Open", OPEN, command_id="c-1") == repeated


@servers_only("a Redis that is paused")
async def test_without_an_answer_of_a_server_the_result_is_unavailable(
    service: EventService, fleet: CommandFleet, ticket: str
) -> None:
    fleet.redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        outcome = await service.send(ticket, "Open", OPEN, command_id="c", timeout=2)
    finally:
        fleet.redis.execute_command("CLIENT", "UNPAUSE")
    assert isinstance(outcome, Unavailable)
    after = await service.send(ticket, "Open", OPEN, command_id="c")
    assert isinstance(after, Accepted | Repeated)
    assert len(await stored(fleet, ticket, 1)) == 1


# On the command line


def test_send_prints_the_outcome_and_ends_with_its_status(fleet: CommandFleet, ticket: str) -> None:
    once = ("send", "tickets", ticket, "Open", '{"title": "it smokes"}', "--command-id", "c-1")
    first = fleet.json(*once)
    assert (first["outcome"], first["command_id"]) == ("accepted", "c-1")
    assert fleet.json(*once) == first | {"outcome": "repeated"}
    assert fleet.run("send", "tickets", ticket, "Close", status=3) == (
        "rejected: Closed may follow Assigned, Noted, not Opened\n"
    )
    assert fleet.json("send", "tickets", ticket, "Close", status=3)["marked"] == "Opened"
    fleet.run("send", "tickets", ticket, "Assign", '{"to": 7}', status=4)
    fleet.run("send", "tickets", ticket, "Assign", "[]", status=2)
