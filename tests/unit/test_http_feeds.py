"""Feeds over HTTP: what was missed and then what comes, to clients that connect again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from joserfc.jwk import OctKey

from eventfleet.cli.http_client import http_client
from eventfleet.clients import FeedRefused, FeedUpdate, follow
from eventfleet.feeds import event_feed
from eventfleet.runtime.http_server import listening_socket, serve
from eventfleet.runtime.settings import Settings
from eventfleet.stores.cursors import encode_cursor
from eventfleet.web import Access, TokenAccess, feed_response
from tests.unit.eventually import until
from tests.unit.http_fixture import AUDIENCE, PLACE, SECRET, Web, problem, token, web

EVENTS = {"Accept": "text/event-stream"}
PAY = {"amount": 1}


class Served:
    """A service at a port, and clients of its feeds."""

    def __init__(self, shop: Web, url: str) -> None:
        self.shop, self.url = shop, url
        self.got: list[FeedUpdate] = []

    async def place(self, *orders: str) -> None:
        for order in orders:
            assert (await self.shop.send(f"{order}/commands/Place")).is_success

    async def pay(self, order: str, times: int = 1) -> None:
        for _ in range(times):
            assert (await self.shop.send(f"{order}/commands/Pay", PAY)).is_success

    @asynccontextmanager
    async def following(self, path: str, **options: Any) -> AsyncIterator[list[FeedUpdate]]:
        """The updates of a client, as they come."""
        got = list[FeedUpdate]()

        async def read() -> None:
            async with follow(f"{self.url}/domains/orders/{path}", **options) as feed:
                async for update in feed:
                    got.append(update)

        task = asyncio.create_task(read())
        try:
            yield got
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.shop.get(path, **{**EVENTS, **headers})


@asynccontextmanager
async def served(access: Access | None = None) -> AsyncIterator[Served]:
    settings, stop = Settings(http_port=0, http_timeout=1), asyncio.Event()
    async with web(access=access) as shop, listening_socket(settings) as listener:
        serving = asyncio.create_task(serve(shop.app, listener, settings, stop))
        try:
            yield Served(shop, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            stop.set()
            await serving


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(feed_response, "RETRY_MILLISECONDS", (1, 5))


@pytest.fixture
async def service(fast: None) -> AsyncIterator[Served]:
    async with served() as found:
        yield found


def events(updates: list[FeedUpdate]) -> list[str]:
    return [
        f"{each.data['subject']} {each.data['version']}"
        for each in updates
        if each.kind == "message"
    ]


async def test_a_client_gets_what_was_before_and_what_comes(service: Served) -> None:
    await service.place("o-1", "o-2")
    async with service.following("feed") as got:
        await until(lambda: len(got) == 2)
        await service.pay("o-1", 2)
        await until(lambda: len(got) == 4)
    assert events(got) == ["o-1 1", "o-2 1", "o-1 2", "o-1 3"]
    assert got[0].data["data"] == PLACE


async def test_from_the_latest_on_only_what_comes_is_sent(service: Served) -> None:
    await service.place("o-1")
    async with service.following("feed?from=latest") as got:
        await until(lambda: service.shop.feed.clients == 1)
        await asyncio.sleep(0.1)
        await service.place("o-2")
        await until(lambda: len(got) == 1)
    assert events(got) == ["o-2 1"]


async def test_a_client_goes_on_from_its_cursor(service: Served) -> None:
    await service.place("o-1", "o-2", "o-3")
    async with service.following("feed") as got:
        await until(lambda: len(got) == 3)
    async with service.following("feed", cursor=got[1].cursor) as more:
        await service.place("o-4")
        await until(lambda: len(more) == 2)
    assert events(more) == ["o-3 1", "o-4 1"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("types=Paid", ["o-1 2", "o-2 2"]),
        ("aggregates=o-2", ["o-2 1", "o-2 2"]),
        (
            "aggregates=o-1&aggregates=o-2&types=Placed&types=Paid",
            ["o-1 1", "o-2 1", "o-1 2", "o-2 2"],
        ),
    ],
)
async def test_a_client_chooses_types_and_aggregates(
    service: Served, choice: str, expected: list[str]
) -> None:
    await service.place("o-1", "o-2", "o-3")
    async with service.following(f"feed?{choice}") as got:
        await service.pay("o-1")
        await service.pay("o-2")
        await until(lambda: len(got) == len(expected))
    assert events(got) == expected


async def test_the_feed_of_an_aggregate_has_its_versions(service: Served) -> None:
    await service.place("o-1", "o-2")
    await service.pay("o-1")
    async with service.following("o-1/events?after=1") as got:
        await until(lambda: len(got) == 1)
        await service.pay("o-2")
        await service.pay("o-1")
        await until(lambda: len(got) == 2)
    async with service.following("o-1/events", cursor=got[0].cursor) as more:
        await until(lambda: len(more) == 1)
    assert (events(got), events(more)) == (["o-1 2", "o-1 3"], ["o-1 3"])


async def test_an_aggregate_may_be_followed_before_it_begins(service: Served) -> None:
    async with service.following("o-1/events") as got:
        await until(lambda: service.shop.feed.clients == 1)
        await service.place("o-1")
        await until(lambda: len(got) == 1)
    assert events(got) == ["o-1 1"]


@pytest.mark.parametrize("path", ["feed", "o-1/events"])
async def test_what_is_cut_off_goes_on_without_gap_or_double(service: Served, path: str) -> None:
    await service.place("o-1")
    async with service.following(path) as got:
        for _ in range(10):
            await service.pay("o-1", 3)
            service.shop.app.end_feeds()
            await until(lambda: service.shop.feed.clients == 0)
            service.shop.app._feeds.stopping = False
        await until(lambda: len(got) == 31)
    assert events(got) == [f"o-1 {version}" for version in range(1, 32)]


async def test_in_another_life_of_the_store_a_client_loads_anew(service: Served) -> None:
    await service.place("o-1")
    async with service.following("feed") as got:
        await until(lambda: len(got) == 1)
        await service.shop.memory.events.registry.raise_epoch()
        await until(lambda: len(got) == 3)
        await service.place("o-2")
        await until(lambda: len(got) == 4)
    assert [each.kind for each in got] == ["message", "reload", "message", "message"]
    assert events(got) == ["o-1 1", "o-1 1", "o-2 1"]
    assert got[1].data == {"reason": "the store has begun another life"}


OTHERS = encode_cursor("bank.feed events", ("x", []))
GONE = encode_cursor("orders.aggregate feed", (1, "another"))


@pytest.mark.parametrize(
    ("path", "cursor", "reason"),
    [
        ("feed", OTHERS, "the cursor is of another feed"),
        ("feed", encode_cursor("orders.feed events", ("x", [])), "the cursor is of another life"),
        ("o-1/events", OTHERS, "the cursor is of another feed"),
        ("o-1/events", GONE, "the cursor's event is not in the store"),
    ],
)
async def test_with_a_cursor_of_elsewhere_a_client_loads_anew(
    service: Served, path: str, cursor: str, reason: str
) -> None:
    await service.place("o-1")
    async with service.following(path, cursor=cursor) as got:
        await until(lambda: len(got) == 2)
    assert [each.kind for each in got] == ["reload", "message"]
    assert got[0].data["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"feed?cursor={OTHERS[:7]}", "cursor"),
        ("feed?cursor=%21", "cursor"),
        ("feed?types=", "types"),
        ("feed?page=1", "page"),
        (f"o-1/events?cursor={GONE[:7]}", "cursor"),
        ("o-1/events?limit=1", "limit"),
    ],
)
async def test_what_is_no_feed_is_refused(service: Served, path: str, field: str) -> None:
    found = await service.get(path)
    assert problem(found) == (422, "invalid")
    assert found.json()["field"].startswith(field)


@pytest.mark.parametrize("path", ["feed?types=Paid", "feed?cursor=x", "o-1/events?cursor=x"])
async def test_a_page_has_no_choice_and_no_cursor_of_a_feed(service: Served, path: str) -> None:
    found = await service.shop.get(path)
    assert problem(found) == (422, "invalid")


async def test_a_bound_token_gets_the_events_of_its_aggregates(fast: None) -> None:
    async with served(TokenAccess(SECRET, audience=AUDIENCE)) as service:
        for order in ("o-1", "eu-1", "o-2"):
            await service.shop.memory.store(order, order, type="Placed", data=PLACE)
        own = token(scope="orders:read", aggregate_prefixes=["orders:eu-"])
        async with service.following("feed", token=own) as got:
            await until(lambda: len(got) == 1)
            await service.shop.memory.store("late", "eu-2", type="Placed", data=PLACE)
            await until(lambda: len(got) == 2)
        assert events(got) == ["eu-1 1", "eu-2 1"]


async def test_a_token_that_expires_ends_the_feed(
    fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_response, "RECHECK_SECONDS", 0.05)
    monkeypatch.setattr(feed_response, "HEARTBEAT_SECONDS", 0.05)
    access = TokenAccess(SECRET, audience=AUDIENCE)
    async with served(access) as service:
        asked = follow(f"{service.url}/domains/orders/feed", token=token(scope="orders:read"))
        async with asked as feed:
            reading = asyncio.create_task(anext(aiter(feed)))
            await until(lambda: service.shop.feed.clients == 1)
            access._use([OctKey.import_key("another secret of more than 32 characters")])
            with pytest.raises(FeedRefused, match="status 401"):
                await reading


async def test_a_slow_client_is_cut_off_and_told_so_when_it_returns(
    service: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_response, "MAX_UNREAD_BYTES", 2_000)
    monkeypatch.setattr(feed_response, "SEND_SECONDS", 0.2)
    port = int(service.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = "GET /domains/orders/feed HTTP/1.1", "Host: localhost", "Accept: text/event-stream"
    writer.write("\r\n".join([*asked, "", ""]).encode())
    await until(lambda: service.shop.feed.clients == 1)
    writer.transport.pause_reading()
    large = PLACE | {"customer": "x" * 200_000}
    for number in range(60):
        await service.shop.memory.store(f"e{number}", f"o-{number}", type="Placed", data=large)
    await until(lambda: service.shop.feed.clients == 0)
    writer.close()
    page = (await service.shop.client.get("/metrics")).text
    assert 'eventfleet_http_feeds_cut_total{reason="slow"} 1.0' in page
    assert "eventfleet_http_feeds 0.0" in page
    assert "was cut off: the client" in caplog.text
    async with service.following("feed") as got:
        await until(lambda: len(got) == 60)
    assert "the feed was cut off before: the client" in caplog.text


async def test_a_heartbeat_moves_the_cursor_of_a_client_that_chooses(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_response, "HEARTBEAT_SECONDS", 0.05)
    async with httpx.AsyncClient() as client:
        url = f"{service.url}/domains/orders/feed?types=Paid"
        async with client.stream("GET", url, headers=EVENTS) as response:
            ids = (line async for line in response.aiter_lines() if line.startswith("id:"))
            first = await anext(ids)
            await service.place("o-1")
            async with asyncio.timeout(20):
                while (last := await anext(ids)) == first:
                    pass
    await service.pay("o-1")
    async with service.following("feed", cursor=last.removeprefix("id: ")) as got:
        await until(lambda: len(got) == 1)
    assert events(got) == ["o-1 2"]


async def test_the_client_of_the_command_line_follows_a_domain_and_an_aggregate(
    service: Served,
) -> None:
    await service.place("o-1", "o-2")
    await service.pay("o-2")
    async with http_client(Settings(service_url=service.url), "orders") as client:
        for asked, expected in (
            ((None, ["Paid"], ""), "o-2 2"),
            (("o-2", [], ""), "o-2 1"),
        ):
            feed = client.follow(*asked, latest=False)
            async with asyncio.timeout(20):
                assert events([await anext(aiter(feed))]) == [expected]
        with pytest.raises(FeedRefused, match="status 404"):
            async with http_client(Settings(service_url=service.url), "none") as other:
                await anext(aiter(other.follow(None, [], "", latest=True)))


async def test_open_feeds_are_limited_and_take_no_part_of_the_limit_on_requests(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.shop.app._feeds.shares.limit = 2
    async with service.following("feed"), service.following("o-1/events"):
        await until(lambda: service.shop.feed.clients == 2)
        assert problem(await service.get("feed")) == (429, "busy")
        assert (await service.shop.get("feed")).is_success
