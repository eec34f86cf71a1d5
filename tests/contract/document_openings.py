"""Openings of document storages over every store, and edits of their games."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
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
from eventfleet.stores.sqlite.document_store import open_document_store as open_in_file
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


@pytest.fixture(params=["memory", "mongodb", "sqlite"])
async def opening(
    request: pytest.FixtureRequest, prefix: str, tmp_path: Path
) -> AsyncIterator[OpenGames]:
    if request.param == "memory":
        yield OpenGames(MemoryDocuments())
        return
    about: Any = {"version_field": "version", "partitions": 1, "timeout": 20}
    if request.param == "sqlite":
        async with open_in_file(
            f"sqlite:///{tmp_path}/file", prefix, "games", "games.events", **about
        ) as in_file:
            yield OpenGames(in_file)
        return
    url = request.getfixturevalue("mongo_url")
    async with open_document_store(url, prefix, "games", "games.events", **about) as store:
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
