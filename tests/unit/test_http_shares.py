"""One caller holds a part of each limit of the HTTP service, so that others are answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from joserfc import jwt
from starlette.types import Message

from eventfleet.web import Limits, TokenAccess
from eventfleet.web.responses import CHUNK_BYTES, NdjsonResponse
from tests.unit.http_fixture import PLACE, SECRET, Web, problem, token, web

SCOPE = "orders:read orders:write"
SHARE = "the limit of one caller is 2 of 4 concurrent requests"


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web(access=TokenAccess(SECRET), limits=Limits(concurrent_requests=4)) as found:
        yield found


def bearer(**claims: Any) -> str:
    return f"Bearer {token(scope=SCOPE, **claims)}"


ANN, BEN = bearer(), bearer(sub="ben")

Hold = Callable[[Web, str], Awaitable[None]]


async def wait(shop: Web, authorization: str) -> None:
    """Wait for a stage that no event reaches here."""
    path = "o-1/commands/Place?wait=relayed"
    await shop.send(path, authorization=authorization, Prefer="wait=60")


async def hold_back_the_body(shop: Web, authorization: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {"authorization": authorization, "content-type": "application/json"}
    url = "/domains/orders/o-1/commands/Place"
    await shop.client.post(url, content=body(), headers=headers)


async def read_slowly(shop: Web, authorization: str) -> None:
    """Take the head of a stream of events and nothing of its body."""
    headers = {"accept": "application/x-ndjson", "authorization": authorization}
    request = shop.client.build_request("GET", "/domains/orders/o-0/events", headers=headers)

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()
        assert message["status"] == 200

    scope = {
        "type": "http",
        "method": "GET",
        "path": request.url.path,
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    await shop.app(scope, receive, send)


HOLDS = pytest.mark.parametrize("hold", [wait, hold_back_the_body, read_slowly])


@asynccontextmanager
async def held(shop: Web, hold: Hold, *callers: str) -> AsyncIterator[None]:
    """Requests that are in progress for the length of the block."""
    tasks = [asyncio.create_task(hold(shop, each)) for each in callers]  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    assert not [each for each in tasks if each.done()]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@HOLDS
async def test_a_caller_with_its_share_is_refused_and_others_are_not(shop: Web, hold: Hold) -> None:
    await shop.send("o-0/commands/Place", authorization=BEN)
    async with held(shop, hold, ANN, ANN):
        found = await shop.send(authorization=ANN)
        assert problem(found) == (429, "busy")
        assert (found.json()["detail"], found.headers["retry-after"]) == (SHARE, "1")
        for number in range(3):
            sent = await shop.send(f"b-{number}/commands/Place", authorization=BEN)
            assert sent.status_code == 202
    assert (await shop.send("o-2/commands/Place", authorization=ANN)).status_code == 202


async def test_all_together_have_the_whole_limit(shop: Web) -> None:
    async with held(shop, wait, ANN, ANN, BEN, BEN):
        found = await shop.send(authorization=bearer(sub="eve"))
        assert problem(found) == (429, "busy")
        assert found.json()["detail"] == "the limit is 4 concurrent requests"
        assert (await shop.client.get("/live")).status_code == 200


async def test_tokens_without_a_subject_share_one_part(shop: Web) -> None:
    claims = {"exp": 4_000_000_000, "scope": SCOPE}
    nobody = f"Bearer {jwt.encode({'alg': 'HS256'}, claims, SECRET)}"
    async with held(shop, wait, nobody, bearer(sub="")):
        found = await shop.send(authorization=nobody)
        assert (problem(found), found.json()["detail"]) == ((429, "busy"), SHARE)
        assert (await shop.send(authorization=ANN)).status_code == 202


async def test_two_tokens_of_one_subject_are_one_caller(shop: Web) -> None:
    async with held(shop, wait, ANN, bearer(jti="another")):
        assert problem(await shop.send(authorization=bearer(jti="third"))) == (429, "busy")


async def test_who_has_no_valid_token_is_told_so_however_busy_it_is(shop: Web) -> None:
    async with held(shop, wait, ANN, ANN, BEN, BEN):
        assert problem(await shop.send()) == (401, "token-refused")
        assert problem(await shop.send(authorization="Bearer x")) == (401, "token-refused")


async def test_bodies_of_one_caller_take_a_part_of_the_memory() -> None:
    async with web(access=TokenAccess(SECRET), limits=Limits(bodies_bytes=3_000)) as shop:
        body = json.dumps(PLACE).encode() + b" " * 1_500

        async def post(authorization: str) -> httpx.Response:
            url = "/domains/orders/o-1/commands/Place"
            headers = {"authorization": authorization, "content-type": "application/json"}
            return await shop.client.post(url, content=body, headers=headers)

        assert problem(found := await post(ANN)) == (429, "busy")
        assert "1500 of 3000 bytes of the bodies" in found.json()["detail"]


async def test_a_stream_that_never_waits_lets_others_have_a_turn_after_each_chunk() -> None:
    done = list[str]()

    async def lines() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * CHUNK_BYTES

    async def send(message: Message) -> None:
        done.append("chunk" if message.get("more_body") else "")

    async def receive() -> Message:
        return await asyncio.Future()

    async def take_turns() -> None:
        for _ in range(3):
            done.append("turn")
            await asyncio.sleep(0)

    response = NdjsonResponse(lines(), 10)
    assert await response.read_first_line()
    await asyncio.gather(response({}, receive, send), take_turns())
    assert [each for each in done if each] == ["chunk", "turn"] * 3


async def test_without_tokens_there_are_no_shares() -> None:
    async with web(limits=Limits(concurrent_requests=2)) as shop, held(shop, wait, "", ""):
        found = await shop.send()
        assert problem(found) == (429, "busy")
        assert found.json()["detail"] == "the limit is 2 concurrent requests"
