"""What all channels promise beside what notices do: Redis, and the in-memory ones."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from eventfleet.stores.contracts import Channels
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.redis import RedisChannels
from tests.conftest import running
from tests.servers.redis import Redis

PATIENCE = 30.0


class RedisServer:
    def __init__(self, server: Redis) -> None:
        self.stop, self.start, self._url = server.kill, server.start, server.url

    def client(self, database: int = 0) -> Channels:
        return RedisChannels(f"{self._url.rstrip('/')}/{database}", timeout=5.0, quiet=0.1)


class InMemory(MemoryChannels):
    def client(self) -> Channels:
        return self


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(Redis) as started:
        assert isinstance(started, Redis)
        yield RedisServer(started)


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest) -> Any:
    return InMemory() if request.param == "memory" else request.getfixturevalue("redis")


async def taken(stream: AsyncIterator[Any], count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += await anext(stream)
    return found


async def test_all_who_are_subscribed_get_the_messages_in_order(server: Any) -> None:
    sender = server.client()
    async with server.client().subscribe("a") as one, server.client().subscribe("a") as other:
        await sender.publish({"a": [b"1", b"2"], "b": [b"elsewhere"]})
        await sender.publish({"a": [bytes(range(256))]})
        expected = [b"1", b"2", bytes(range(256))]
        assert [await taken(each, 3) for each in (one, other)] == [expected, expected]
    await sender.close()


async def test_a_name_is_claimed_once_by_any_number_of_clients(server: Any) -> None:
    clients = [server.client() for _ in range(5)]
    names = [f"once-{number}" for number in range(20)]
    claims = await asyncio.gather(*(client.claim(names, 60) for client in clients))
    assert [sum(each) for each in zip(*claims, strict=True)] == [1] * 20
    assert await clients[0].claim([], 60) == []
    for client in clients:
        await client.close()


async def test_a_claim_is_free_again_after_its_time(server: Any) -> None:
    client = server.client()
    assert await client.claim(["short"], 0.05) == [True]
    for _ in range(1_000):
        await asyncio.sleep(0.02)
        if await client.claim(["short"], 0.05) == [True]:
            break
    else:
        pytest.fail("the claim is never free again")
    await client.close()


async def test_without_a_server_nothing_is_claimed(server: Any) -> None:
    async with AsyncExitStack() as stack:
        client = server.client()
        stack.push_async_callback(client.close)
        await client.claim(["before"], 60)
        server.stop()
        stack.callback(server.start)
        with pytest.raises(ServerUnavailable):
            await client.claim(["name"], 60)
        with pytest.raises(ServerUnavailable):
            await client.publish({"a": [b"1"]})


async def test_databases_of_one_redis_hear_nothing_of_each_other(redis: RedisServer) -> None:
    first, second = redis.client(0), redis.client(1)
    async with first.subscribe("a") as heard, second.subscribe("a") as other:
        await second.publish({"a": [b"second"]})
        await first.publish({"a": [b"first"]})
        assert await taken(heard, 1) == [b"first"]
        assert await taken(other, 1) == [b"second"]
    assert await first.claim(["mine"], 60) == await second.claim(["mine"], 60) == [True]
    for client in (first, second):
        await client.close()
