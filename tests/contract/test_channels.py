"""What all channels promise beside what notices do: Redis, and the in-memory ones."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from eventfleet.stores.contracts import Channels, Claim
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.redis import RedisChannels
from tests.conftest import running
from tests.servers.redis import Redis

PATIENCE = 30.0


class RedisServer:
    def __init__(self, server: Redis) -> None:
        self.stop, self.start, self._url = server.kill, server.start, server.url
        self._server = server

    def flush(self) -> None:
        assert self._server.execute("FLUSHALL") == "+OK"

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


async def claim_of(client: Channels, name: str, seconds: float = 60.0) -> Claim:
    """A claim of this name, whose deadline is some seconds from now."""
    incarnation = await client.incarnation()
    return Claim(name, incarnation.id, incarnation.now + seconds)


async def test_all_who_are_subscribed_get_the_messages_in_order(server: Any) -> None:
    sender = server.client()
    async with server.client().subscribe("a") as one, server.client().subscribe("a") as other:
        await sender.publish({"a": [b"1", b"2"], "b": [b"elsewhere"]})
        await sender.publish({"a": [bytes(range(256))]})
        expected = [b"1", b"2", bytes(range(256))]
        assert [await taken(each, 3) for each in (one, other)] == [expected, expected]
    await sender.close()


async def test_what_many_publish_at_once_arrives_in_order_whoever_gives_up(server: Any) -> None:
    sender = server.client()
    async with server.client().subscribe("a") as stream:
        numbers = [b"%d" % number for number in range(100)]
        publishing = [asyncio.create_task(sender.publish({"a": [each]})) for each in numbers]
        await asyncio.sleep(0)
        publishing[50].cancel()
        await asyncio.gather(*publishing, return_exceptions=True)
        assert await taken(stream, 100) == numbers
    await sender.close()


async def test_a_name_is_claimed_once_by_any_number_of_clients(server: Any) -> None:
    clients = [server.client() for _ in range(5)]
    claims = [await claim_of(clients[0], f"once-{number}") for number in range(20)]
    claimed = await asyncio.gather(*(client.claim(claims) for client in clients))
    winners = [[left for left in each if left] for each in zip(*claimed, strict=True)]
    assert [len(each) for each in winners] == [1] * 20
    assert all(0 < left <= 60 for (left,) in winners)
    assert await clients[0].claim([]) == []
    for client in clients:
        await client.close()


async def test_nothing_is_claimed_past_its_deadline_also_what_nobody_has_claimed(
    server: Any,
) -> None:
    client = server.client()
    short, unclaimed = [await claim_of(client, name, 0.5) for name in ("short", "unclaimed")]
    assert (await client.claim([short]))[0] > 0
    while (await client.incarnation()).now <= short.deadline:
        assert await client.claim([short]) == [0.0]
        await asyncio.sleep(0.02)
    assert await client.claim([short, unclaimed]) == [0.0, 0.0]
    await client.close()


async def test_a_server_that_came_back_lets_nobody_claim_what_was_published_before(
    server: Any,
) -> None:
    async with AsyncExitStack() as stack:
        client = server.client()
        stack.push_async_callback(client.close)
        before = await claim_of(client, "before")
        server.stop()
        server.start()
        client = server.client()
        stack.push_async_callback(client.close)
        assert await client.claim([before, before._replace(name="other")]) == [0.0, 0.0]
        (left,) = await client.claim([await claim_of(client, "after")])
        assert left > 0


async def test_an_emptied_server_lets_nobody_claim_what_was_published_before(
    redis: RedisServer,
) -> None:
    client = redis.client()
    before = await claim_of(client, "flushed")
    assert (await client.claim([before]))[0] > 0
    redis.flush()
    assert await client.claim([before]) == [0.0]
    assert (await client.claim([await claim_of(client, "flushed")]))[0] > 0
    assert await client.claim([before._replace(name="other")]) == [0.0]
    await client.close()


async def test_without_a_server_nothing_is_claimed(server: Any) -> None:
    async with AsyncExitStack() as stack:
        client = server.client()
        stack.push_async_callback(client.close)
        before = await claim_of(client, "before")
        server.stop()
        stack.callback(server.start)
        with pytest.raises(ServerUnavailable):
            await client.claim([before])
        with pytest.raises(ServerUnavailable):
            await client.incarnation()
        with pytest.raises(ServerUnavailable):
            await client.publish({"a": [b"1"]})


async def test_databases_of_one_redis_hear_nothing_of_each_other(redis: RedisServer) -> None:
    first, second = redis.client(0), redis.client(1)
    async with first.subscribe("a") as heard, second.subscribe("a") as other:
        await second.publish({"a": [b"second"]})
        await first.publish({"a": [b"first"]})
        assert await taken(heard, 1) == [b"first"]
        assert await taken(other, 1) == [b"second"]
    for client in (first, second):
        assert (await client.claim([await claim_of(client, "mine")]))[0] > 0
    for client in (first, second):
        await client.close()
