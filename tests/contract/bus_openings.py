"""Buses of every kind, for the tests of their contract."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import nats
import pytest
from redis.asyncio import Redis as RedisClient

from eventfleet.buses import (
    EventBus,
    MemoryBus,
    NatsBus,
    RedisBus,
    RedisPubSubBus,
    Serializer,
)
from eventfleet.stores.retry import RetryPolicy

REMOTE = ["redis", "nats"]
KEEPING = ["memory", *REMOTE]
"""The buses that keep events for a group that is away."""
ALL = [*KEEPING, "redis pub/sub"]


class Buses:
    """Buses of one channel, each with a client of its own as another process would have."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    async def __call__(self, serializer: Serializer | None = None) -> EventBus:
        bus: EventBus = await self._make(serializer)
        return bus


@pytest.fixture(params=ALL)
async def buses(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Buses]:
    kind, memory = request.param, MemoryBus()
    async with AsyncExitStack() as stack:

        async def make(serializer: Serializer | None) -> Any:
            if kind == "memory":
                return memory
            if kind == "redis":
                url = request.getfixturevalue("redis_url")
                client = await stack.enter_async_context(RedisClient.from_url(url))
                return RedisBus(client, prefix, serializer, claim_seconds=1.0)
            if kind == "redis pub/sub":
                url = request.getfixturevalue("redis_url")
                client = await stack.enter_async_context(RedisClient.from_url(url))
                return RedisPubSubBus(client, prefix, serializer)
            url = request.getfixturevalue("nats_url")
            connection = await stack.enter_async_context(await nats.connect(url))
            return NatsBus(connection, prefix, serializer, claim_seconds=1.0)

        yield Buses(make)


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = RetryPolicy(0.001, 5.0, attempts=3)
    monkeypatch.setattr("eventfleet.buses.subscription.DELIVERY", quick)


@pytest.fixture
async def bus(buses: Buses) -> EventBus:
    return await buses()
