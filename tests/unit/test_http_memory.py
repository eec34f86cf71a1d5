"""The memory that requests take: what is let go at once, and what is bounded."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from eventfleet.domains.orders import orders
from eventfleet.topics.json_structure import count_values
from eventfleet.web import Limits, request_body
from tests.unit.http_fixture import PLACE, Web, problem, web
from tests.unit.slow_queries import Breaking, Slow

REQUESTS = 150


async def request(shop: Web, method: str, path: str, body: bytes = b"") -> int:
    """Sends a request without any client in between; returns the status."""
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    await shop.app({**scope, "headers": headers}, receive, send)
    return int(statuses[0] or 0)


ORDER = "/domains/orders/o-1"
REFUSED = [
    ("POST", f"{ORDER}/commands/Place", b'{"total": 0}', 422),
    ("POST", f"{ORDER}/commands/Place", b"{", 422),
    ("POST", f"{ORDER}/commands/Place", b"[1]", 422),
    ("POST", f"{ORDER}/commands/Place?wait=eaten", b"{}", 422),
    ("POST", f"{ORDER}/commands/Bribe", b"{}", 404),
    ("POST", f"{ORDER}/events", b"{}", 405),
    ("GET", "/domains/nowhere/o/state", b"", 404),
    ("GET", "/nowhere", b"", 404),
    ("GET", f"{ORDER}/state?version=9", b"", 404),
    ("GET", f"{ORDER}/state?version=x", b"", 422),
    ("GET", "/domains/orders/feed?from=nonsense", b"", 422),
]


async def garbage(shop: Web, method: str, path: str, body: bytes, status: int) -> int:
    """The objects that only the garbage collector frees after REQUESTS requests, each time.

    The least of three times: tasks that tests before this one have left may end meanwhile.
    """
    assert await request(shop, method, path, body) == status
    return min([await _garbage(shop, method, path, body) for _ in range(3)])


async def _garbage(shop: Web, method: str, path: str, body: bytes) -> int:
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            await request(shop, method, path, body)
        await asyncio.sleep(0)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(("method", "path", "body", "status"), REFUSED)
async def test_a_refused_request_leaves_no_garbage(
    method: str, path: str, body: bytes, status: int
) -> None:
    async with web() as shop:
        await shop.send()
        assert await garbage(shop, method, path, body, status) < REQUESTS


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), TimeoutError()])
async def test_a_request_that_fails_leaves_no_garbage(error: Exception) -> None:
    async with web() as shop:

        async def decide(*_: Any) -> None:
            raise type(error)(*error.args)

        shop.storing.decide = decide  # type: ignore[method-assign]
        status = 503 if isinstance(error, TimeoutError) else 500
        body = json.dumps(PLACE).encode()
        assert await garbage(shop, "POST", f"{ORDER}/commands/Place", body, status) < REQUESTS
        shop.memory.events.__class__ = Breaking
        assert await garbage(shop, "GET", f"{ORDER}/events", b"", 404) < REQUESTS


# What is in progress


async def test_a_probe_s_name_does_not_pass_by_the_limit() -> None:
    async with web(orders, limits=Limits(concurrent_requests=0)) as shop:
        for name in ("live", "ready", "metrics"):
            assert (await shop.client.get(f"/{name}")).status_code == 200
            assert problem(await shop.send(f"o-1/commands/{name}")) == (429, "busy")
            assert problem(await shop.get(f"{name}/state")) == (429, "busy")
        assert shop.storing.asked == []


def posted(shop: Web, body: bytes) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(
        shop.client.post(
            "/domains/orders/o-1/commands/Place",
            content=body,
            headers={"content-type": "application/json"},
        )
    )


async def test_the_bodies_in_progress_are_bounded_as_a_sum() -> None:
    body = json.dumps(PLACE).encode() + b" " * 600
    async with web(limits=Limits(bodies_bytes=5_000)) as shop:
        release, arrived = asyncio.Event(), asyncio.Semaphore(0)
        decide = shop.storing.decide

        async def held(*args: Any) -> None:
            arrived.release()
            await release.wait()
            await decide(*args)

        shop.storing.decide = held  # type: ignore[method-assign]
        first = posted(shop, body)
        await arrived.acquire()
        rest = [posted(shop, body) for _ in range(9)]
        refused, held_back = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
        assert held_back
        for each in refused:
            assert problem(found := await each) == (429, "busy")
            assert found.headers["retry-after"] == "1"
            assert "bodies" in found.json()["detail"]
        release.set()
        assert (await first).status_code == 202
        await asyncio.gather(*rest)
        assert (await posted(shop, body)).status_code == 202, "the memory is given back"


# Bodies that grow when they are parsed, or come late


@pytest.mark.parametrize("piece", [b"[],", b'{"a":1},', b'"",', b"1,"])
async def test_a_body_of_too_many_values_is_not_parsed(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "parse", None)
    body = b'{"customer": [' + piece * (900_000 // len(piece)) + b"1]}"
    async with web() as shop:
        found = await posted(shop, body)
        assert problem(found) == (422, "invalid")
        assert found.json()["field"] == "body"
        assert "values; the limit is 100000" in found.json()["reason"]


async def test_a_body_takes_the_memory_of_its_values_too() -> None:
    async with web(limits=Limits(bodies_bytes=50_000)) as shop:
        found = await posted(shop, b'{"customer": [' + b"[]," * 500 + b"1]}")
        assert problem(found) == (429, "busy")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"{}", 1),
        (b'{"a": [1, 2]}', 3),
        (b'{"a": "' + b"[{," * 1_000 + b'"}', 1),
        (b'"' + b'\\"' * 500_000, 0),
        (b'"' + b'\\"' * 500_000 + b"\\", 0),
        (b"," * 2_000 + b'"\\', 2_000),
    ],
)
def test_values_are_counted_outside_of_strings(text: bytes, count: int) -> None:
    assert count_values(text) == count


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    async with web(limits=Limits(timeout_seconds=0.1)) as shop:
        found = await shop.client.post(
            "/domains/orders/o/commands/Cancel",
            content=slowly(),
            headers={"content-type": "application/json"},
        )
        assert problem(found) == (408, "body-late")
        assert found.headers["connection"] == "close"
        described = (await shop.client.get("/openapi.json")).json()["paths"]
        assert "408" in described["/domains/orders/{id}/commands/Cancel"]["post"]["responses"]


async def test_a_body_that_was_slow_takes_no_time_from_the_decision() -> None:
    async with web(limits=Limits(timeout_seconds=0.4)) as shop:
        decide = shop.storing.decide

        async def slow(*args: Any) -> None:
            await asyncio.sleep(0.2)
            await decide(*args)

        async def slowly() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.3)
            yield json.dumps(PLACE).encode()

        shop.storing.decide = slow  # type: ignore[method-assign]
        path, headers = f"{ORDER}/commands/Place", {"content-type": "application/json"}
        found = await shop.client.post(path, content=slowly(), headers=headers)
        assert found.status_code == 202


async def test_clients_that_leave_leave_no_garbage() -> None:
    async with web() as shop:
        events: Any = shop.memory.events
        events.__class__, events.began = Slow, asyncio.Event()

        async def leave(method: str, path: str) -> None:
            async def receive() -> Any:
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                raise AssertionError("nobody is there")

            scope = {"type": "http", "method": method, "path": path, "query_string": b""}
            headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            await shop.app({**scope, "headers": headers}, receive, send)
            await asyncio.sleep(0)

        requests = [("GET", f"{ORDER}/events"), ("POST", f"{ORDER}/commands/Place")]
        for each in requests:
            await leave(*each)
        gc.collect()
        gc.disable()
        try:
            for each in requests * 10:
                await leave(*each)
            assert gc.collect() < 20
        finally:
            gc.enable()
