"""What all notices promise: Redis, and the in-memory one."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventfleet.stores.contracts import Notice, Notices, Stage
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.memory.channels import MemoryNotices
from eventfleet.stores.redis import RedisNotices
from tests.conftest import running
from tests.servers.redis import Redis

PATIENCE = 30.0
HERE = Notice("e-1", Stage.APPENDED)
MORE = [Notice(f"e-{n}", Stage.RELAYED) for n in range(2, 5)]


class RedisNoticeServer:
    """Clients of a Redis of the test's own."""

    def __init__(self, server: Redis) -> None:
        self.server = server

    def client(self, timeout: float = 5.0, quiet: float = 0.1) -> Notices:
        return RedisNotices(self.server.url, timeout=timeout, quiet=quiet)

    def stop(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


class InMemory(MemoryNotices):
    def client(self) -> Notices:
        return self


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield InMemory()
        return
    with running(Redis) as started:
        assert isinstance(started, Redis)
        yield RedisNoticeServer(started)


@pytest.fixture
def real() -> Iterator[RedisNoticeServer]:
    with running(Redis) as started:
        assert isinstance(started, Redis)
        yield RedisNoticeServer(started)


@asynccontextmanager
async def publishing(server: Any) -> AsyncIterator[Notices]:
    client: Notices = server.client()
    try:
        yield client
    finally:
        await client.close()


async def taken(stream: AsyncIterator[Notice], count: int) -> list[Notice]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(stream) for _ in range(count)]


async def test_a_channel_hears_its_notices_in_order(server: Any) -> None:
    async with publishing(server) as out, server.client().subscribe("here") as stream:
        await out.publish({"here": [HERE, *MORE[:1]], "there": MORE})
        await out.publish({})
        await out.publish({"here": MORE[1:]})
        assert await taken(stream, 4) == [HERE, *MORE]


async def test_nobody_has_to_listen(server: Any) -> None:
    async with publishing(server) as out:
        await out.publish({"nowhere": [HERE], "nobody": []})


async def test_all_who_listen_hear_it(server: Any) -> None:
    async with (
        publishing(server) as out,
        server.client().subscribe("here") as one,
        server.client().subscribe("here") as other,
    ):
        await out.publish({"here": [HERE]})
        assert [await taken(each, 1) for each in (one, other)] == [[HERE], [HERE]]


async def test_what_was_said_before_and_after_is_not_heard(server: Any) -> None:
    async with publishing(server) as out:
        await out.publish({"here": MORE})
        async with server.client().subscribe("here") as stream:
            await out.publish({"here": [HERE]})
            assert await taken(stream, 1) == [HERE]
        await out.publish({"here": MORE})
        async with server.client().subscribe("here") as stream:
            await out.publish({"here": [HERE]})
            assert await taken(stream, 1) == [HERE]


async def test_many_at_once_all_arrive(server: Any) -> None:
    many = [Notice(f"event-{n}", Stage.SNAPSHOTTED) for n in range(10_500)]
    async with publishing(server) as out, server.client().subscribe("here") as stream:
        await out.publish({"here": many})
        assert await taken(stream, len(many)) == many


async def test_a_listener_is_told_that_it_may_have_missed_something(server: Any) -> None:
    async with server.client().subscribe("here") as stream:
        server.stop()
        with pytest.raises(ServerUnavailable):
            await taken(stream, 1)


async def test_without_a_server_nothing_is_told_or_heard_until_it_is_back(server: Any) -> None:
    async with publishing(server) as out:
        await out.publish({"here": [HERE]})
        server.stop()
        with pytest.raises(ServerUnavailable):
            await out.publish({"here": [HERE]})
        with pytest.raises(ServerUnavailable):
            async with server.client().subscribe("here"):
                pass
        server.start()
        async with server.client().subscribe("here") as stream:
            await out.publish({"here": [HERE]})
            assert await taken(stream, 1) == [HERE]


# A Redis alone


async def test_a_server_that_has_fallen_silent_is_found_out(real: RedisNoticeServer) -> None:
    listener, teller = real.client(timeout=0.5), real.client(timeout=0.5)
    await teller.publish({"here": [HERE]})
    async with listener.subscribe("here") as stream:
        real.server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(ServerUnavailable):
                await taken(stream, 1)
            with pytest.raises(ServerUnavailable):
                await teller.publish({"here": [HERE]})
        finally:
            real.server.signal(signal.SIGCONT)
    await teller.close()


async def test_a_long_silence_is_no_fault_where_the_server_answers(real: RedisNoticeServer) -> None:
    async with publishing(real) as out, real.client(quiet=0.01).subscribe("here") as stream:
        hearing = asyncio.create_task(taken(stream, 1))
        await asyncio.sleep(0.3)
        await out.publish({"here": [HERE]})
        assert await hearing == [HERE]


async def test_what_is_no_notice_is_passed_over(real: RedisNoticeServer) -> None:
    async with publishing(real) as out, real.client().subscribe("here") as stream:
        for garbage in ("{}", "[[1,2]]", '[["e","eaten"]]', "nothing"):
            real.server.execute(f"PUBLISH here {garbage!r}")
        await out.publish({"here": [HERE]})
        assert await taken(stream, 1) == [HERE]


def test_an_url_that_cant_be_used_is_refused() -> None:
    with pytest.raises(Misconfigured):
        RedisNotices("redis://localhost:port", timeout=1)
