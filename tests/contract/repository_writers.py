"""Writers of aggregates over every event store."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.aggregates import (
    Repository,
)
from eventfleet.aggregates.repository import DEFAULT_PARTITIONS
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.mongo import open_stores
from eventfleet.topics.event import EventRecord
from tests.unit.users import User

OpenWriter = Callable[..., AbstractAsyncContextManager[Repository[User]]]


@pytest.fixture(params=["memory", "mongodb"])
def writer(request: pytest.FixtureRequest, prefix: str) -> Iterator[OpenWriter]:
    """Opens repositories of users, each with a client of its own, over the same stored events."""
    if request.param == "memory":
        kept = DomainStores(MemoryEvents(DEFAULT_PARTITIONS, domain="users"), MemorySnapshots())

        @asynccontextmanager
        async def opened(**options: Any) -> AsyncIterator[Repository[User]]:
            yield Repository(User, kept, **options)

        yield opened
        return
    url = request.getfixturevalue("mongo_url")

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[Repository[User]]:
        async with open_stores(url, prefix, ["users"], timeout=30, snapshots_kept=3) as stores:
            yield Repository(User, stores["users"], **options)

    yield connected
    with MongoClient(url) as client:
        client.drop_database(prefix)


async def stored(repository: Repository[User], id: str = "user123") -> list[EventRecord]:
    return [event async for event in repository._stores.events.read(id)]


def lose_the_next_answer(repository: Repository[User], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next put is done, and its answer does not arrive."""
    events: Any = repository._stores.events
    put = events.put

    async def unanswered(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(events, "put", put)
        await put(*arguments, **options)
        raise ServerUnavailable("no answer")

    monkeypatch.setattr(events, "put", unanswered)
