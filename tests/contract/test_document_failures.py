"""What the document store says when MongoDB fails, operation by operation."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.errors import AccessRefused, ServerUnavailable
from eventfleet.stores.mongo.document_store import MongoDocuments
from eventfleet.stores.mongo.document_stores import open_document_store
from tests.conftest import running
from tests.contract.samples import event, ids, key
from tests.contract.test_mongo_failures import (
    COMMANDS,
    HASTY,
    PATIENT,
    SLACK,
    FailingMongoDB,
    failing,
    refused,
)
from tests.servers.mongodb import MongoDB
from tests.servers.server import free_port

Operation = Callable[[MongoDocuments], Awaitable[Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[MongoDB]:
    with running(FailingMongoDB) as started:
        assert isinstance(started, MongoDB)
        yield started


@asynccontextmanager
async def opened(url: str, database: str, timeout: float) -> AsyncIterator[MongoDocuments]:
    async with open_document_store(
        *(url, database, "users", "users.events"),
        version_field="version",
        partitions=1,
        timeout=timeout,
    ) as store:
        yield store


@pytest.fixture
async def documents(server: MongoDB, prefix: str) -> AsyncIterator[MongoDocuments]:
    """With a document; they wait long for the server."""
    async with opened(server.url, prefix, PATIENT) as store:
        await store.prepare()
        await store.insert(event("u1", 1), to_publish=True)
        await store.project([StoredDocument("u1", 1, {"name": "ann"})])
        yield store


@pytest.fixture
async def hasty(
    server: MongoDB, prefix: str, documents: MongoDocuments
) -> AsyncIterator[MongoDocuments]:
    """The same for one who does not wait long."""
    async with opened(server.url, prefix, HASTY) as store:
        yield store


async def watched(store: MongoDocuments) -> None:
    async with store.feed(None):
        pass


OPERATIONS: dict[str, Operation] = {
    "prepare": lambda s: s.prepare(),
    "load": lambda s: s.load("u1", "u1"),
    "insert": lambda s: s.insert(event("u2", 1), to_publish=False),
    "project": lambda s: s.project([StoredDocument("u2", 1, {})]),
    "versions": lambda s: s.versions(["u1"]),
    "find": lambda s: s.find({}, [], 0, 9),
    "changes": lambda s: ids(s.changes("u1", 0)),
    "prepare outbox": lambda s: s.outbox.prepare(),
    "pending": lambda s: s.outbox.pending(9, to_publish=True),
    "settle": lambda s: s.outbox.settle([key("u1", 1)]),
    "hold_lease": lambda s: s.outbox.hold_lease("users", "me", 1.0),
    "release_lease": lambda s: s.outbox.release_lease("users", "me"),
    "feed": watched,
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_server_that_is_no_primary_is_unavailable(
    server: MongoDB, hasty: MongoDocuments, operation: Operation
) -> None:
    with failing(server, COMMANDS, errorCode=10107):
        await refused(operation(hasty), ServerUnavailable)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_right_that_is_missing_is_for_the_operator(
    server: MongoDB, documents: MongoDocuments, prefix: str, operation: Operation
) -> None:
    with failing(server, COMMANDS, errorCode=13):
        assert prefix in await refused(operation(documents), AccessRefused)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_an_absent_server_is_unavailable_in_time(operation: Operation) -> None:
    url = f"mongodb://somebody:secret@127.0.0.1:{free_port()}/?directConnection=true"
    async with opened(url, "absent", HASTY) as store:
        started = time.monotonic()
        message = await refused(operation(store), ServerUnavailable)
    assert time.monotonic() - started < HASTY + SLACK
    assert "secret" not in message


async def test_a_watch_that_a_server_ends_is_unavailable(
    server: MongoDB, documents: MongoDocuments
) -> None:
    async with documents.feed(None) as items:
        with failing(server, ["getMore", "aggregate"], errorCode=13435):
            await refused(anext(items), ServerUnavailable)  # type: ignore[arg-type]
