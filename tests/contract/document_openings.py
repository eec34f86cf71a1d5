"""Openings of document storages over every store, and edits of their games."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.documents import (
    EventSourcedStorage,
    MemoryDocuments,
    StorageOptions,
)
from eventfleet.stores.contracts.documents import DocumentStore
from eventfleet.stores.mongo.document_stores import open_document_store
from tests.contract.document_types import StructGame

Games = EventSourcedStorage[Any]


class OpenGames:
    """Opens storages over one store, each as a process of its own would."""

    def __init__(self, store: DocumentStore) -> None:
        self.store = store

    @asynccontextmanager
    async def __call__(self, kind: type[Any] = StructGame, **options: Any) -> AsyncIterator[Games]:
        async with EventSourcedStorage(
            "games", kind, self.store, options=StorageOptions(**options)
        ) as games:
            yield games


@pytest.fixture(params=["memory", "mongodb"])
async def opening(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[OpenGames]:
    if request.param == "memory":
        yield OpenGames(MemoryDocuments())
        return
    url = request.getfixturevalue("mongo_url")
    async with open_document_store(
        url, prefix, "games", "games.events", version_field="version", partitions=1, timeout=20
    ) as store:
        yield OpenGames(store)
    with MongoClient(url) as client:
        client.drop_database(prefix)


@pytest.fixture
async def games(opening: OpenGames) -> AsyncIterator[Games]:
    async with opening() as storage:
        yield storage


def earn(gold: int) -> Any:
    def edit(game: Any) -> None:
        game.gold += gold

    return edit


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)
