"""The contract of the dead-letter store, sentence by sentence, over every implementation."""

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from eventfleet.stores.contracts import DeadLetterStore
from eventfleet.stores.contracts.dead_letters import ParkedQuery, RedriveRequest
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate

NOW = datetime(2025, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
DISCARD = Discard("a mistake", "ann", NOW)


def parked(aggregate_id: str = "a", role: str = "relay", **named: Any) -> ParkedAggregate:
    known = ParkedAggregate(
        role=role,
        partition=0,
        aggregate_id=aggregate_id,
        first=3,
        last=5,
        event_id="e3",
        event_type="Placed",
        reason="KeyError: 'x.y'",
        details="Traceback\n  line",
        attempts=1,
        parked_at=NOW,
    )
    return replace(known, **named)


async def test_what_is_parked_comes_back_by_role_and_partition(
    dead_letters: DeadLetterStore,
) -> None:
    mine = [parked("a/1"), parked("b", partition=1), parked("a", "snapshot")]
    await dead_letters.park(mine)
    assert await dead_letters.parked_in("relay", 0) == mine[:1]
    assert await dead_letters.parked_in("relay", 1) == mine[1:2]
    assert await dead_letters.parked_in("snapshot", 0) == mine[2:]
    assert await dead_letters.parked_in("project", 0) == []


async def test_what_is_parked_again_takes_the_place_of_the_former(
    dead_letters: DeadLetterStore,
) -> None:
    await dead_letters.park([])
    await dead_letters.park([parked()])
    await dead_letters.park([parked(last=9, attempts=2)])
    assert await dead_letters.parked_in("relay", 0) == [parked(last=9, attempts=2)]


async def test_what_is_unparked_is_gone_with_its_request(dead_letters: DeadLetterStore) -> None:
    await dead_letters.park([parked("a"), parked("b")])
    assert await dead_letters.request(parked("a"), None)
    await dead_letters.unpark("relay", ["a", "never there"])
    assert await dead_letters.parked_in("relay", 0) == [parked("b")]
    await dead_letters.park([parked("a")])
    assert await dead_letters.requests("relay", 0, 10) == []


async def test_a_query_finds_by_role_aggregate_and_reason_page_by_page(
    dead_letters: DeadLetterStore,
) -> None:
    known = [
        parked("a", "project"),
        parked("a", reason="KeyErrors.*"),
        parked("b"),
        parked("b", "snapshot", partition=7),
    ]
    await dead_letters.park(known[::-1])
    find = dead_letters.find
    assert await find(ParkedQuery(), 10) == known
    assert await find(ParkedQuery(role="relay"), 10) == known[1:3]
    assert await find(ParkedQuery(aggregate_id="b"), 10) == known[2:]
    assert await find(ParkedQuery(reason="KeyErrors.*"), 10) == known[1:2]
    assert await find(ParkedQuery(reason="eyError"), 10) == []
    assert await find(ParkedQuery(), 2) == known[:2]
    assert await find(ParkedQuery(after=("relay", "a")), 10) == known[2:]
    assert await find(ParkedQuery(role="relay", after=("relay", "a")), 1) == known[2:3]


async def test_the_parked_are_counted_by_role(dead_letters: DeadLetterStore) -> None:
    assert await dead_letters.count() == {}
    await dead_letters.park([parked("a"), parked("b"), parked("a", "snapshot")])
    assert await dead_letters.count() == {"relay": 2, "snapshot": 1}


async def test_a_request_holds_for_the_aggregate_as_it_is_parked(
    dead_letters: DeadLetterStore,
) -> None:
    await dead_letters.park([parked("a"), parked("b", partition=1), parked("c")])
    assert not await dead_letters.request(parked("a", first=2), None)
    assert not await dead_letters.request(parked("unknown"), None)
    assert await dead_letters.request(parked("a"), None)
    assert await dead_letters.request(parked("b"), DISCARD)
    assert await dead_letters.request(parked("c"), DISCARD)
    assert await dead_letters.requests("relay", 0, 10) == [
        RedriveRequest("a", 3, None),
        RedriveRequest("c", 3, DISCARD),
    ]
    assert await dead_letters.requests("relay", 1, 10) == [RedriveRequest("b", 3, DISCARD)]
    assert len(await dead_letters.requests("relay", 0, 1)) == 1
    assert await dead_letters.requests("snapshot", 0, 10) == []


async def test_a_discard_replaces_a_redrive_and_not_the_other_way_round(
    dead_letters: DeadLetterStore,
) -> None:
    await dead_letters.park([parked()])
    assert await dead_letters.request(parked(), None)
    assert await dead_letters.request(parked(), DISCARD)
    assert await dead_letters.request(parked(), None)
    assert await dead_letters.requests("relay", 0, 10) == [RedriveRequest("a", 3, DISCARD)]
    await dead_letters.park([parked(first=4)])
    assert await dead_letters.request(parked(first=4), None)
    assert await dead_letters.requests("relay", 0, 10) == [RedriveRequest("a", 4, None)]


async def test_redrives_of_many_are_requested_at_once(dead_letters: DeadLetterStore) -> None:
    known = [parked("a"), parked("b"), parked("c", first=4), parked("d", "snapshot")]
    await dead_letters.park(known)
    assert await dead_letters.request(known[1], DISCARD)
    assert await dead_letters.request_redrives([]) == 0
    wanted = [*known, parked("c", first=3), parked("unknown")]
    assert await dead_letters.request_redrives([*known[:2], wanted[4], wanted[5]]) == 2
    assert await dead_letters.request_redrives(known[2:]) == 2
    assert await dead_letters.requests("relay", 0, 10) == [
        RedriveRequest("a", 3),
        RedriveRequest("b", 3, DISCARD),
        RedriveRequest("c", 4),
    ]
    assert await dead_letters.requests("snapshot", 0, 10) == [RedriveRequest("d", 3)]


async def test_a_request_stays_until_it_is_ended(dead_letters: DeadLetterStore) -> None:
    await dead_letters.park([parked()])
    assert await dead_letters.request(parked(), DISCARD)
    await dead_letters.park([parked(first=4)])
    [request] = await dead_letters.requests("relay", 0, 10)
    assert request == RedriveRequest("a", 3, DISCARD)
    await dead_letters.end_request("relay", request._replace(first=9))
    await dead_letters.end_request("relay", request._replace(discard=None))
    assert await dead_letters.requests("relay", 0, 10) == [request]
    await dead_letters.end_request("relay", request)
    assert await dead_letters.requests("relay", 0, 10) == []
    assert await dead_letters.parked_in("relay", 0) == [parked(first=4)]


async def test_a_discarded_event_is_noted_once(dead_letters: DeadLetterStore) -> None:
    events = [
        DiscardedEvent("relay", "a", 10, "e10", DISCARD),
        DiscardedEvent("relay", "a", 2, "e2", DISCARD),
        DiscardedEvent("relay", "b", 1, "e1", DISCARD),
        DiscardedEvent("snapshot", "a", 2, "e2", DISCARD),
    ]
    await dead_letters.note_discarded([])
    await dead_letters.note_discarded(events)
    again = DiscardedEvent("relay", "a", 2, "e2", Discard("other", "bob", NOW))
    await dead_letters.note_discarded([again])
    assert await dead_letters.discarded("relay", ["a"]) == [events[1], events[0]]
    assert await dead_letters.discarded("relay", ["b", "c"]) == [events[2]]
    assert await dead_letters.discarded("snapshot", ["a"]) == [events[3]]
    assert await dead_letters.discarded_by("relay") == [events[1], events[0], events[2]]
    assert await dead_letters.discarded_by("project") == []
    assert await dead_letters.find(ParkedQuery(), 10) == []
