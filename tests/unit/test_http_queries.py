"""Queries over HTTP: what is answered, page by page, and how what is not there is told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from eventfleet.domains.orders import Order, Placed, orders
from eventfleet.model.domain import Domain
from eventfleet.stores.cursors import encode_cursor
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.event import EventRecord
from eventfleet.web import Application, Limits
from eventfleet.web.failure_log import StreamCutOff
from tests.unit.eventually import until
from tests.unit.http_fixture import PLACE, START, Web, problem, web
from tests.unit.slow_queries import Breaking, Slow

PAY, PACK = {"amount": 1999}, {"parcels": 2}
STATE = {
    "status": "new",
    "customer": "",
    "total": 0,
    "currency": "",
    "paid": 0,
    "refunded": 0,
    "parcels": 0,
    "carrier": "",
}
PLACED = STATE | PLACE | {"status": "placed"}
PAID = PLACED | {"status": "paid", "paid": 1999}
PACKED = PAID | {"status": "packed", "parcels": 2}


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    """Three events of `o-1`, a minute after another, and one of `o-2`."""
    async with web() as found:
        for command, body in (("Place", PLACE), ("Pay", PAY), ("Pack", PACK)):
            await found.send(f"o-1/commands/{command}", body)
        await found.send("o-2/commands/Place")
        yield found


def types(body: Any) -> list[str]:
    return [event["type"] for event in body["events"]]


# Events


async def test_events_are_cloud_events_in_version_order(shop: Web) -> None:
    body = await shop.get_json("o-1/events")
    assert types(body) == ["Placed", "Paid", "Packed"]
    assert body["next"] is None
    stored = await shop.memory.history("o-1")
    assert msgspec.convert(body["events"], list[EventRecord]) == stored


@pytest.mark.parametrize(
    ("asked", "versions", "following"),
    [
        ("after=1", [2, 3], None),
        ("limit=2", [1, 2], 2),
        ("limit=3", [1, 2, 3], None),
        ("after=2&limit=1", [3], None),
        ("types=Paid", [2], None),
        ("types=Packed&types=Placed", [1, 3], None),
        ("types=Placed&types=Packed&limit=1", [1], 1),
        ("after=3", [], None),
        ("types=Nonsense", [], None),
    ],
)
async def test_events_that_were_asked_for(
    shop: Web, asked: str, versions: list[int], following: int | None
) -> None:
    body = await shop.get_json(f"o-1/events?{asked}")
    assert [event["version"] for event in body["events"]] == versions
    assert body["next"] == following


async def test_events_are_streamed_as_lines_where_these_are_asked_for(shop: Web) -> None:
    found = await shop.get("o-1/events?after=1", accept="application/x-ndjson")
    assert found.headers["content-type"] == "application/x-ndjson"
    assert found.text.endswith("\n")
    lines = [msgspec.json.decode(line, type=EventRecord) for line in found.text.splitlines()]
    assert lines == (await shop.memory.history("o-1"))[1:]
    short = await shop.get("o-1/events?limit=1", accept="application/x-ndjson, */*;q=0.1")
    assert len(short.text.splitlines()) == 1
    empty = await shop.get("o-1/events?after=3", accept="application/x-ndjson")
    assert (empty.status_code, empty.content) == (200, b"")


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        ("application/x-ndjson", True),
        ("APPLICATION/X-NDJSON ; q=0.1", True),
        ("application/x-ndjson, application/json", True),
        ("application/x-ndjson;q=0.9, application/json;q=0.8", True),
        ("application/x-ndjson;charset=utf-8;q=1.000, */*", True),
        ("application/x-ndjson;q=0.5, application/json", False),
        ("application/x-ndjson;q=0.5, */*;q=0.8", False),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson;q=0.0, text/html", False),
        ("application/x-ndjson-seq", False),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
    ],
)
async def test_lines_come_where_they_are_preferred(shop: Web, accept: str, lines: bool) -> None:
    found = await shop.get("o-1/events", accept=accept)
    assert found.status_code == 200
    kind = "application/x-ndjson" if lines else "application/json"
    assert found.headers["content-type"] == kind


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_store_that_is_away_is_503(
    shop: Web, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    shop.memory.events.__class__ = Breaking
    for path in ("o-1/events", "o-1/state?version=1"):
        found = await shop.get(path, accept=accept)
        assert problem(found) == (503, "unavailable")
        assert found.json()["detail"] == "MongoDB is away"


SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/domains/orders/o-1/events",
    "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"accept", b"application/x-ndjson")],
}


async def test_a_client_that_takes_no_lines_is_cut_off_in_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with web(limits=Limits(timeout_seconds=0.1)) as shop:
        await shop.memory.store("1", "o-1", type="Placed", data=PLACE)
        with pytest.raises(StreamCutOff):
            await shop.app(SCOPE, receive, send)
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    text = "GET /domains/orders/o-1/events was cut off: the client does not take the lines fast"
    assert record.getMessage().startswith(text)
    assert not record.exc_info


@pytest.mark.parametrize("accept", [b"application/json", b"application/x-ndjson"])
@pytest.mark.parametrize("path", ["events", "state", "missing"])
async def test_a_client_that_leaves_ends_its_read(shop: Web, path: str, accept: bytes) -> None:
    events: Any = shop.memory.events
    events.__class__, events.began = Slow, asyncio.Event()
    scope = SCOPE | {
        "path": f"/domains/orders/o-1/{path}",
        "query_string": b"after=0" if path == "missing" else b"",
        "headers": [(b"host", b"localhost"), (b"accept", accept)],
    }

    async def receive() -> Any:
        await events.began.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    async with asyncio.timeout(5):
        await shop.app(scope, receive, send)
    assert events.ended == 1
    shop.memory.events.__class__ = MemoryEvents
    assert 'status="499"} 1.0' in (await shop.client.get("/metrics")).text


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        ("events?after=1&limit=7", 9),
        ("events", 101),
        ("events?after=9223372036854775807", 2**63 - 1),
        ("events?limit=7&types=Paid", None),
        ("missing?after=0&limit=2", 2),
        ("missing?after=0&limit=1000", 3),
    ],
)
async def test_a_page_reads_no_versions_beyond_it(
    shop: Web, path: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers read a whole range, whatever the limit."""
    bounds, read = [], shop.memory.events.read

    def noting(aggregate_id: str, after: int, up_to: int | None, *rest: Any) -> Any:
        bounds.append(up_to)
        return read(aggregate_id, after, up_to, *rest)

    monkeypatch.setattr(shop.memory.events, "read", noting)
    await shop.get_json(f"o-1/{path}")
    assert bounds == [bound]


class Endless(MemoryEvents):
    """Has always one event more."""

    async def read(self, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        events = [event async for event in super().read(*args, **named)]
        while True:
            await asyncio.sleep(0)
            yield events[0]


async def test_a_client_that_has_gone_is_read_nothing_more(shop: Web) -> None:
    shop.memory.events.__class__ = Endless
    reads = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            assert message["more_body"]
            reads.set()

    async def receive() -> Any:
        await reads.wait()
        return {"type": "http.disconnect"}

    async with asyncio.timeout(60):
        await shop.app(SCOPE, receive, send)
    assert reads.is_set()


async def test_a_stream_that_breaks_off_has_no_proper_end(shop: Web) -> None:
    shop.memory.events.__class__ = Breaking
    shop.memory.events.good = 1  # type: ignore[attr-defined]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(StreamCutOff):
        await shop.app(SCOPE, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert not any(m["type"] == "http.response.body" and not m["more_body"] for m in sent)


# Snapshots and states


async def test_a_snapshot_is_answered_as_it_was_saved(shop: Web) -> None:
    assert problem(await shop.get("o-1/snapshot")) == (404, "no-snapshot")
    await shop.get_json("o-1/state")
    await until(lambda: shop.saver.saved)
    body = await shop.get_json("o-1/snapshot")
    taken = body.pop("taken_at")
    assert taken == (START + timedelta(minutes=4)).isoformat().replace("+00:00", "Z")
    assert body.pop("fingerprint")
    assert body == {"aggregate_id": "o-1", "version": 3, "state": PACKED, "state_version": 1}


@pytest.mark.parametrize(
    ("asked", "version", "state"),
    [
        ("", 3, PACKED),
        ("?version=1", 1, PLACED),
        ("?version=2", 2, PAID),
        ("?at=2025-01-01T00:01:00Z", 1, PLACED),
        ("?at=2025-01-01T01:02:59.999%2B01:00", 2, PAID),
        ("?at=2999-01-01T00:00:00Z", 3, PACKED),
    ],
)
async def test_a_state_is_the_latest_or_that_at_a_version_or_time(
    shop: Web, asked: str, version: int, state: Any
) -> None:
    body = await shop.get_json(f"o-1/state{asked}")
    assert body == {"aggregate_id": "o-1", "version": version, "state": state}


async def test_a_diff_is_a_json_patch(shop: Web) -> None:
    body = await shop.get_json("o-1/diff?first=2&second=3")
    patch = {(step["op"], step["path"]): step["value"] for step in body["patch"]}
    assert patch == {("replace", "/status"): "packed", ("replace", "/parcels"): 2}
    assert (body["aggregate_id"], body["first"], body["second"]) == ("o-1", 2, 3)
    assert await shop.get_json("o-1/difference?first=2&second=3") == body, "the former name"


@pytest.mark.parametrize(
    ("asked", "versions", "ahead", "following"),
    [
        ("after=0", [1, 2, 3], False, None),
        ("after=1&limit=1", [2], False, 2),
        ("after=3", [], False, None),
        ("after=9", [], True, None),
    ],
)
async def test_a_client_learns_what_it_lacks(
    shop: Web, asked: str, versions: list[int], ahead: bool, following: int | None
) -> None:
    body = await shop.get_json(f"o-1/missing?{asked}")
    assert [event["version"] for event in body["events"]] == versions
    assert (body["latest"], body["ahead"], body["next"]) == (3, ahead, following)


# What is not there, or can't be asked


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("nobody/events", "unknown-aggregate"),
        ("nobody/snapshot", "unknown-aggregate"),
        ("nobody/state", "unknown-aggregate"),
        ("nobody/state?version=1", "unknown-aggregate"),
        ("nobody/diff?first=0&second=1", "unknown-aggregate"),
        ("nobody/missing?after=0", "unknown-aggregate"),
        ("o-1/state?version=4", "unknown-version"),
        ("o-1/state?at=2024-12-31T00:00:00Z", "unknown-version"),
        ("o-1/diff?first=0&second=4", "unknown-version"),
        ("o-1", "no-such-path"),
        ("o-1/events/", "no-such-path"),
        ("/events", "no-such-path"),
    ],
)
async def test_what_is_not_there_is_404(shop: Web, path: str, kind: str) -> None:
    assert problem(await shop.get(path)) == (404, kind)


async def test_a_stream_of_an_unknown_aggregate_is_404(shop: Web) -> None:
    found = await shop.get("nobody/events", accept="application/x-ndjson")
    assert problem(found) == (404, "unknown-aggregate")


@pytest.mark.parametrize("path", ["events", "snapshot", "state", "missing?after=0"])
async def test_an_unknown_domain_is_404_and_the_known_are_named(shop: Web, path: str) -> None:
    found = await shop.client.get(f"/domains/orderz/o-1/{path}")
    assert problem(found) == (404, "unknown-domain")
    assert "orders" in found.json()["detail"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("o-1/events?affter=1", "affter"),
        ("o-1/events?after=-1", "after"),
        ("o-1/events?after=x", "after"),
        ("o-1/events?after=", "after"),
        ("o-1/events?after=9223372036854775808", "after"),
        ("o-1/events?after=1&after=2", "after"),
        ("o-1/events?after=1e3", "after"),
        ("o-1/events?after=1.0", "after"),
        ("o-1/events?after=%2B1", "after"),
        ("o-1/events?after=01", "after"),
        ("o-1/events?after=+1", "after"),
        ("o-1/events?after=%D9%A1", "after"),
        ("o-1/events?limit=1.0", "limit"),
        ("o-1/state?version=1.0", "version"),
        ("o-1/diff?first=0&second=1e0", "second"),
        ("o-1/state?at=0", "at"),
        ("o-1/state?at=1700000000.5", "at"),
        ("feed?limit=1e1", "limit"),
        ("o-1/events?limit=0", "limit"),
        ("o-1/events?limit=1001", "limit"),
        ("o-1/events?types=", "types[0]"),
        ("o-1/snapshot?version=1", "version"),
        ("o-1/state?version=0", "version"),
        ("o-1/state?version=null", "version"),
        ("o-1/state?at=2025-01-01T00:00:00", "at"),
        ("o-1/state?at=yesterday", "at"),
        ("o-1/state?at=0001-01-01T00:00:00%2B23:59", "at"),
        ("o-1/state?at=2025-01-01T00:00:00Z&version=1", "at"),
        ("o-1/missing", "after"),
        ("o-1/diff?first=1", "second"),
        ("feed?from=nonsense", "from"),
        ("feed?from=%F0%9F", "from"),
        (f"feed?from={encode_cursor('orders.feed', [[0, 0, 2**63 - 9, 0]])}", "from"),
        (f"feed?from={encode_cursor('orders.feed', [[p, 0, 0, 0] for p in range(1500)])}", "from"),
        ("feed?limit=0", "limit"),
        ("aggregates?from=nonsense", "from"),
        ("aggregates?start=a", "start"),
    ],
)
async def test_a_parameter_that_can_t_be_taken_is_named(shop: Web, path: str, field: str) -> None:
    found = await shop.get(path)
    assert problem(found) == (422, "invalid")
    body = found.json()
    assert body["field"] == field
    assert body["detail"] == f"{field}: {body['reason']}"


def evolve(order: Order, event: Any) -> Order:
    raise ZeroDivisionError("it can't")


async def test_an_event_that_can_t_be_replayed_is_named() -> None:
    broken = Domain("broken", state=Order, evolve=evolve, events=[Placed])
    async with web(broken) as shop:
        await shop.memory.store("1", "o-1", type="Placed", data=PLACE)
        found = await shop.get("o-1/state")
        assert problem(found) == (500, "replay-failed")
        assert "broken 'o-1' version 1, Placed" in found.json()["detail"]


async def test_an_event_of_a_newer_schema_asks_for_a_deployment(shop: Web) -> None:
    await shop.memory.store("1", "newer", type="Placed", data=PLACE, schema_version=9)
    found = await shop.get("newer/state")
    assert problem(found) == (503, "unavailable")
    known = orders.latest_schema_version("Placed")
    detail = f"this process knows version {known} of Placed, the event has 9: deploy"
    assert found.json()["detail"] == f"orders 'newer' version 1, Placed: {detail}"


# Listings


async def test_the_domains_tell_what_they_declare(shop: Web) -> None:
    found = await shop.client.get("/domains")
    (told,) = found.json()["domains"]
    assert (told["name"], told["mode"], told["schema_free"]) == ("orders", "asynchronous", False)
    assert told["commands"] == ["Place", "Pay", "Pack", "Ship", "Deliver", "Cancel", "Return"]
    assert "Placed" in told["events"]


async def test_aggregates_come_page_by_page(shop: Web) -> None:
    await shop.send("o-3/commands/Place")
    first = await shop.get_json("aggregates?limit=2")
    assert first["aggregates"] == ["o-1", "o-2"]
    second = await shop.get_json(f"aggregates?limit=2&from={first['next']}")
    assert second == {"aggregates": ["o-3"], "next": None}


async def test_the_feed_goes_on_from_where_it_came_to(shop: Web) -> None:
    first = await shop.get_json("feed?limit=3")
    assert types(first) == ["Placed", "Paid", "Packed"]
    second = await shop.get_json(f"feed?from={first['next']}")
    assert [event["subject"] for event in second["events"]] == ["o-2"]
    assert (await shop.get_json(f"feed?from={second['next']}"))["events"] == []
    await shop.send("o-2/commands/Cancel", {})
    assert types(await shop.get_json(f"feed?from={second['next']}")) == ["Cancelled"]


async def test_events_are_told_in_their_newest_schema(shop: Web) -> None:
    old = {"customer": "bob", "total": 1}
    await shop.memory.store("old", "o-9", type="Placed", data=old, schema_version=1)
    for path in ("o-9/events", "feed?limit=1000", "o-9/missing?after=0"):
        event = (await shop.get_json(path))["events"][-1]
        assert (event["schemaversion"], event["data"]) == (2, old | {"currency": "EUR"})


# In an application of one's own


async def test_it_can_be_mounted(shop: Web) -> None:
    mounted = Starlette(routes=[Mount("/of/events", shop.app)])
    alone, shop.client._transport.app = shop.app, mounted  # type: ignore[attr-defined]
    assert isinstance(alone, Application)
    await shop.client.post("/of/events/domains/orders/a%2Fb/commands/Place", json=PLACE)
    found = await shop.client.get("/of/events/domains/orders/a%2Fb/state")
    assert found.json()["aggregate_id"] == "a/b"
    document = (await shop.client.get("/of/events/openapi.json")).json()
    assert document["servers"] == [{"url": "/of/events"}]


async def test_an_empty_order_of_rows_is_not_taken_for_none(shop: Web) -> None:
    found = await shop.client.get("/views/orders/orders?order=")
    assert (found.status_code, found.json()["field"]) == (422, "order")
