"""The server of the HTTP service on real connections: what it ends, refuses and goes on with."""

import asyncio
import gc
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eventfleet.runtime import http_protocol
from eventfleet.runtime.http_server import listening_socket, serve
from eventfleet.runtime.settings import Settings
from eventfleet.web import Limits
from tests.unit.http_fixture import PLACE, Web, web
from tests.unit.slow_queries import Breaking

HEAD = b"GET /live HTTP/1.1\r\nHost: localhost\r\n"
REFUSED_BODIES = int(os.environ.get("REFUSED_BODIES", "30"))


class Caller:
    """A connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, str]:
        """The status and the body of the next response."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        (length,) = [line for line in lines if line.startswith("content-length: ")]
        body = await self.reader.readexactly(int(length.partition(" ")[2]))
        return int(head.split()[1]), body.decode()

    async def rest(self) -> bytes:
        """What comes until the service closes the connection."""
        try:
            async with asyncio.timeout(30):
                return await self.reader.read()
        except ConnectionResetError:
            return b""


class Served:
    """An application that is served at a port."""

    def __init__(self, shop: Web, port: int) -> None:
        self.shop, self.port = shop, port

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Caller(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[Served]:
    settings, stop = Settings(http_port=0, http_timeout=1), asyncio.Event()
    async with web(limits=limits) as shop, listening_socket(settings) as listener:
        serving = asyncio.create_task(serve(shop.app, listener, settings, stop))
        try:
            yield Served(shop, listener.getsockname()[1])
        finally:
            stop.set()
            await serving


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


# Time


@pytest.mark.usefixtures("hasty")
async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with served() as service, service.caller() as caller:
        assert await caller.rest() == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begin", [b"G", HEAD, HEAD + b"X-Half: ", b"\r\n"])
async def test_a_head_that_is_not_complete_in_time_is_408(begin: bytes) -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(begin)
        assert (await caller.response())[0] == 408
        assert await caller.rest() == b""


@pytest.mark.usefixtures("hasty")
async def test_headers_that_come_one_by_one_have_no_more_time() -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(HEAD)

        async def slowly() -> None:
            while True:
                await caller.say(b"X-More: 1\r\n")
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(slowly())
        assert (await caller.response())[0] == 408
        sending.cancel()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begin", [b"GET", b"\r\n"])
async def test_half_a_further_request_is_ended_too(begin: bytes) -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(HEAD + b"\r\n")
        assert await caller.response() == (200, "ok\n")
        await caller.say(begin)
        assert (await caller.response())[0] == 408
        assert await caller.rest() == b""


@pytest.mark.usefixtures("hasty")
async def test_a_body_that_nobody_reads_any_more_is_ended() -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(post("/domains/orders/o/commands/Bribe", b"{", 10_000))
        assert (await caller.response())[0] == 404
        assert await caller.rest() == b""


@pytest.mark.usefixtures("hasty")
async def test_a_slow_response_is_not_ended() -> None:
    """The time for the head counts from its begin, and ends with it."""
    async with served() as service, service.caller() as caller:
        decide = service.shop.storing.decide

        async def slow(*args: Any) -> None:
            await asyncio.sleep(0.5)
            await decide(*args)

        service.shop.storing.decide = slow  # type: ignore[method-assign]
        await caller.say(post("/domains/orders/o/commands/Place", json.dumps(PLACE).encode()))
        assert (await caller.response())[0] == 202
        await caller.say(HEAD + b"\r\n")
        assert await caller.response() == (200, "ok\n")


# Size and form


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"".join(b"X-%d: 1\r\n" % n for n in range(98)), 200),
        (b"".join(b"X-%d: 1\r\n" % n for n in range(100)), 431),
        (b"X: " + b"a" * 60_000 + b"\r\n", 200),
        (b"X: " + b"a" * 70_000 + b"\r\n", 431),
        (b"X: 1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(70)), 431),
        (b"Host: localhost\r\n", 400),
        (b"Host: evil.example\r\n", 400),
    ],
)
async def test_heads_are_bounded_and_name_one_host(head: bytes, status: int) -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(HEAD + head + b"\r\n")
        assert (await caller.response())[0] == status


async def test_a_head_without_an_end_is_431_and_takes_no_memory() -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(HEAD + b"X: ")

        async def endlessly() -> None:
            while True:
                await caller.say(b"a" * 10_000)

        sending = asyncio.create_task(endlessly())
        assert (await caller.response())[0] == 431
        await asyncio.wait({sending}, timeout=10)
        assert sending.done(), "the connection is closed"
        assert isinstance(sending.exception(), ConnectionError)


async def test_a_long_url_is_431() -> None:
    async with served() as service, service.caller() as caller:
        await caller.say(b"GET /live?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await caller.response())[0] == 431


async def test_requests_in_one_piece_are_all_answered() -> None:
    async with served() as service, service.caller() as caller:
        await caller.say((HEAD + b"\r\n") * 3_000 + b"GET")
        for _ in range(3_000):
            assert await caller.response() == (200, "ok\n")


async def test_trailers_are_no_headers() -> None:
    async with served() as service, service.caller() as caller:
        head = post("/domains/orders/o/commands/Place", b"").replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        )
        body = json.dumps(PLACE).encode()
        trailers = b"".join(b"Idempotency-Key: %d\r\n" % n for n in range(1_000))
        await caller.say(head + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers))
        status, text = await caller.response()
        assert status == 202
        assert json.loads(text)["command_id"] != "0"


# Errors


async def test_after_an_internal_error_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as service, service.caller() as caller:
        service.shop.storing.error = ZeroDivisionError("no")
        await caller.say(post("/domains/orders/o/commands/Place", json.dumps(PLACE).encode()))
        assert (await caller.response())[0] == 500
        await caller.say(HEAD + b"\r\n")
        assert await caller.response() == (200, "ok\n")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not any(record.name.startswith("uvicorn") for record in errors)


# Memory


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_refused_bodies_leave_the_memory_as_it_was() -> None:
    """REFUSED_BODIES in the environment says how many, after a hundred at most.

    The garbage collector is off: it runs rarely where objects are few and large.
    """
    body = json.dumps(PLACE | {"customer": "a" * 900_000}).encode()
    request = post("/domains/orders/o/commands/Place", body)
    async with served() as service, service.caller() as caller:

        async def refuse(count: int) -> int:
            for _ in range(count):
                await caller.say(request)
                assert (await caller.response())[0] == 422
            return resident_bytes()

        gc.disable()
        try:
            before = await refuse(min(REFUSED_BODIES, 100))
            assert await refuse(REFUSED_BODIES) < before * 1.1
        finally:
            gc.enable()


async def test_a_stream_whose_store_goes_away_is_cut_off_in_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as service, service.caller() as caller:
        for command, body in (("Place", PLACE), ("Pay", {"amount": 1999})):
            await service.shop.send(f"o-1/commands/{command}", body)
        events: Any = service.shop.memory.events
        events.__class__, events.good = Breaking, 1
        path = "/domains/orders/o-1/events"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
        await caller.say(head.encode())
        answer = await caller.rest()
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")  # the last chunk
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.getMessage() == f"GET {path} was cut off: MongoDB is away"
    assert not record.exc_info
