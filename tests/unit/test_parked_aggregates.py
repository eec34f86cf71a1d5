"""What operators ask of parked aggregates, over HTTP and by the service behind it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.domains.orders import orders
from eventfleet.service.parked_aggregates import NotParked, ParkedAggregates
from eventfleet.stores.contracts.dead_letters import ParkedQuery, RedriveRequest
from eventfleet.stores.errors import InvalidCursor
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.parked import Discard, ParkedAggregate
from eventfleet.web import TokenAccess
from tests.simulation.in_memory_servers import START, HandClock
from tests.unit.http_fixture import SECRET, Web, problem, token, web

PATH = "/dead-letters/orders"


def parked(aggregate_id: str = "o-1", role: str = "relay", **named: Any) -> ParkedAggregate:
    known = ParkedAggregate(
        *(role, 0, aggregate_id, 3, 5, "e3", "OrderPlaced", "KeyError: 'x'", "line 1", 1, START)
    )
    return replace(known, **named)


@pytest.fixture
def store() -> MemoryDeadLetters:
    return MemoryDeadLetters()


@pytest.fixture
def desk(store: MemoryDeadLetters) -> ParkedAggregates:
    return ParkedAggregates("orders", store, HandClock())


# The service


async def test_a_listing_goes_page_by_page(
    desk: ParkedAggregates, store: MemoryDeadLetters
) -> None:
    known = [parked("a"), parked("b"), parked("a", "snapshot")]
    await store.park(known)
    first = await desk.page(limit=2)
    assert first.items == known[:2]
    assert first.next
    assert await desk.page(limit=2, cursor=first.next) == (known[2:], None)
    with pytest.raises(InvalidCursor):
        await desk.page(cursor="x")


async def test_a_redrive_is_requested_of_all_that_are_found(
    desk: ParkedAggregates, store: MemoryDeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.service.parked_aggregates.PAGE", 1)
    await store.park([parked("a"), parked("b"), parked("c", reason="ValueError: y")])
    assert await desk.redrive(reason="KeyError") == 2
    found = await store.requests("relay", 0, 10)
    assert found == [RedriveRequest("a", 3), RedriveRequest("b", 3)]
    assert await desk.redrive(role="snapshot") == 0


async def test_a_redrive_of_all_says_so(desk: ParkedAggregates, store: MemoryDeadLetters) -> None:
    await store.park([parked("a"), parked("b")])
    with pytest.raises(InvalidRecord, match="is missing: say which by role, aggregate_id"):
        await desk.redrive()
    with pytest.raises(InvalidRecord, match="takes no role, aggregate_id, reason"):
        await desk.redrive(role="relay", everything=True)
    assert await store.requests("relay", 0, 10) == []
    assert await desk.redrive(everything=True) == 2


async def test_a_discard_is_held_to_what_was_looked_at(
    desk: ParkedAggregates, store: MemoryDeadLetters
) -> None:
    await store.park([parked("a")])
    with pytest.raises(NotParked, match="relay of orders parks 'a' at version 3, not at 2"):
        await desk.discard("relay", "a", 2, why="x", by="ann")
    with pytest.raises(NotParked, match="relay of orders parks no aggregate ''"):
        await desk.discard("relay", "", 3, why="x", by="ann")
    with pytest.raises(NotParked, match=" of orders parks no aggregate 'a'"):
        await desk.discard("", "a", 3, why="x", by="ann")
    with pytest.raises(NotParked, match="relay of orders parks no aggregate 'z'"):
        await desk.discard("relay", "z", 2, why="x", by="ann")
    assert await desk.discard("relay", "a", 3, why="x", by="ann") == parked("a")
    [request] = await store.requests("relay", 0, 10)
    assert request == RedriveRequest("a", 3, Discard("x", "ann", START))


@pytest.mark.parametrize("why", ["", "  ", "x" * 1_001])
async def test_a_discard_says_why(desk: ParkedAggregates, why: str) -> None:
    with pytest.raises(InvalidRecord, match="why"):
        await desk.discard("relay", "a", 3, why=why, by="ann")


# Over HTTP


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web(orders) as shop:
        await shop.memory.dead_letters.park(
            [parked("o-1"), parked("o-2"), parked("o-3", "snapshot")]
        )
        yield shop


async def test_parked_aggregates_are_listed(shop: Web) -> None:
    found = (await shop.client.get(PATH, params={"role": "relay", "limit": 1})).json()
    [first] = found["dead_letters"]
    assert (first["aggregate_id"], first["first"], first["details"]) == ("o-1", 3, "line 1")
    rest = await shop.client.get(PATH, params={"role": "relay", "from": found["next"]})
    assert [each["aggregate_id"] for each in rest.json()["dead_letters"]] == ["o-2"]
    assert rest.json()["next"] is None


async def test_redrives_and_discards_are_requested(shop: Web) -> None:
    done = await shop.client.post(f"{PATH}/redrive", json={"role": "relay", "reason": "KeyError"})
    assert (done.status_code, done.json()) == (202, {"requested": 2})
    body = {"role": "relay", "aggregate_id": "o-1", "version": 3, "why": "a mistake"}
    done = await shop.client.post(f"{PATH}/discard", json=body)
    assert (done.status_code, done.json()) == (202, {"event_id": "e3"})
    first, second = await shop.memory.dead_letters.requests("relay", 0, 10)
    assert first.discard
    assert (first.discard.why, first.discard.by) == ("a mistake", "unknown")
    assert second == RedriveRequest("o-2", 3)


async def test_where_no_token_is_needed_x_actor_names_who_discards(shop: Web) -> None:
    body = {"role": "relay", "aggregate_id": "o-1", "version": 3, "why": "a mistake"}
    done = await shop.client.post(f"{PATH}/discard", json=body, headers={"X-Actor": "ann"})
    assert done.status_code == 202
    [request] = await shop.memory.dead_letters.requests("relay", 0, 10)
    assert request.discard
    assert request.discard.by == "ann"


async def test_all_are_redriven_and_listed_where_the_request_says_so(shop: Web) -> None:
    done = await shop.client.post(f"{PATH}/redrive", json={"all": True})
    assert (done.status_code, done.json()) == (202, {"requested": 3})
    assert len((await shop.client.get(PATH)).json()["dead_letters"]) == 3
    for name in ("role", "aggregate", "reason"):
        found = await shop.client.get(PATH, params={name: ""})
        assert (problem(found), found.json()["field"]) == ((422, "invalid"), name)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("redrive", {"roll": "relay"}, (422, "invalid")),
        ("redrive", {}, (422, "invalid")),
        ("redrive", {"all": False}, (422, "invalid")),
        ("redrive", {"all": 1}, (422, "invalid")),
        ("redrive", {"all": True, "role": "relay"}, (422, "invalid")),
        ("redrive", {"role": "relay", "aggregate_id": ""}, (422, "invalid")),
        ("redrive", {"role": None}, (422, "invalid")),
        ("discard", {"role": "relay", "aggregate_id": "o-1", "version": 3}, (422, "invalid")),
        (
            "discard",
            {"role": "relay", "aggregate_id": "o-1", "version": 3, "why": " "},
            (422, "invalid"),
        ),
        (
            "discard",
            {"role": "relay", "aggregate_id": "o-1", "version": 2, "why": "x"},
            (409, "not-parked"),
        ),
    ],
)
async def test_what_cannot_be_requested_is_refused(
    shop: Web, path: str, body: Any, expected: tuple[int, str]
) -> None:
    assert problem(await shop.client.post(f"{PATH}/{path}", json=body)) == expected
    assert await shop.memory.dead_letters.requests("relay", 0, 10) == []


async def test_operators_need_a_scope_of_their_own() -> None:
    async with web(orders, access=TokenAccess(SECRET)) as shop:
        await shop.memory.dead_letters.park([parked("o-1")])
        for scope, expected in (("orders:read orders:write", 403), ("orders:operate", 200)):
            headers = {"authorization": f"Bearer {token(scope=scope)}"}
            assert (await shop.client.get(PATH, headers=headers)).status_code == expected
        body = {"role": "relay", "aggregate_id": "o-1", "version": 3, "why": "x"}
        await shop.client.post(f"{PATH}/discard", json=body, headers=headers)
        [request] = await shop.memory.dead_letters.requests("relay", 0, 10)
        assert request.discard
        assert request.discard.by == "ann"
        assert len(await shop.memory.dead_letters.find(ParkedQuery(), 10)) == 1
