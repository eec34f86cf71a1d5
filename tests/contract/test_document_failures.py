"""What the document store says when MongoDB fails, operation by operation."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient

from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.errors import AccessRefused, InvalidCursor, Misconfigured, ServerUnavailable
from eventfleet.stores.mongo.document_store import MongoDocuments
from eventfleet.stores.mongo.document_stores import open_document_store
from tests.conftest import running
from tests.contract.failing_mongodb import (
    COMMANDS,
    HASTY,
    PATIENT,
    SLACK,
    FailingMongoDB,
    failing,
    refused,
)
from tests.contract.samples import TIME, event, ids, key
from tests.servers.mongodb import MongoDB
from tests.servers.server import free_port

HANGING = {"blockConnection": True, "blockTimeMS": int(HASTY * 2000)}
UNSURE = {"code": 64, "errmsg": "waiting for replication timed out"}
Operation = Callable[[MongoDocuments], Awaitable[Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[MongoDB]:
    with running(FailingMongoDB) as started:
        assert isinstance(started, MongoDB)
        yield started


@asynccontextmanager
async def opened(url: Any, database: str, timeout: float) -> AsyncIterator[MongoDocuments]:
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
    "lost": lambda s: s.lost(),
    "version_at": lambda s: s.version_at("u1", TIME),
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


@pytest.mark.parametrize("code", [286, 280])
async def test_a_history_that_is_lost_while_a_watch_reads_is_no_cursor(
    server: MongoDB, documents: MongoDocuments, code: int
) -> None:
    async with documents.feed(None) as items:
        await documents.insert(event("u2", 1), to_publish=False)
        cursor = (await anext(items)).cursor
        with failing(server, ["getMore"], errorCode=code):
            assert cursor in await refused(anext(items), InvalidCursor)  # type: ignore[arg-type]
    async with documents.feed(None) as items:
        with failing(server, ["getMore"], errorCode=code):
            await refused(anext(items), InvalidCursor)  # type: ignore[arg-type]


async def test_a_watch_that_a_server_ends_is_unavailable(
    server: MongoDB, hasty: MongoDocuments
) -> None:
    async with hasty.feed(None) as items:
        with failing(server, ["getMore", "aggregate"], errorCode=13435):
            await refused(anext(items), ServerUnavailable)  # type: ignore[arg-type]


async def test_a_watch_goes_on_where_a_connection_was_cut(
    server: MongoDB, documents: MongoDocuments
) -> None:
    async with documents.feed(None) as items:
        await documents.insert(event("u2", 1), to_publish=False)
        assert (await anext(items)).event.id == "u2-1"
        with failing(server, ["getMore"], mode={"times": 1}, closeConnection=True):
            await documents.insert(event("u2", 2), to_publish=False)
            assert (await anext(items)).event.id == "u2-2"


async def test_a_watch_whose_right_is_taken_away_is_for_the_operator(
    server: MongoDB, documents: MongoDocuments, prefix: str
) -> None:
    async with documents.feed(None) as items:
        with failing(server, ["getMore", "aggregate"], errorCode=13):
            assert prefix in await refused(anext(items), AccessRefused)  # type: ignore[arg-type]


async def test_a_watch_on_a_server_that_hangs_is_unavailable_in_time(
    server: MongoDB, documents: MongoDocuments, hasty: MongoDocuments
) -> None:
    started = time.monotonic()
    with failing(server, ["aggregate", "getMore"], **HANGING):
        await refused(watched(hasty), ServerUnavailable)
    async with hasty.feed(None) as items:
        with failing(server, ["aggregate", "getMore"], **HANGING):
            await refused(anext(items), ServerUnavailable)  # type: ignore[arg-type]
    assert time.monotonic() - started < 2 * HASTY + SLACK


async def test_a_watch_may_wait_longer_than_a_call(documents: MongoDocuments, hasty: Any) -> None:
    """Nothing happens for longer than the stores' timeout: that is no failure."""
    async with hasty.feed(None) as items:
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.wait({waiting}, timeout=4 * HASTY)
        assert not waiting.done()
        await documents.insert(event("u2", 1), to_publish=False)
        assert (await asyncio.wait_for(waiting, SLACK)).event.id == "u2-1"


# Servers that hang, connections that are cut, writes that may be lost


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_server_that_hangs_is_unavailable_in_time(
    server: MongoDB, hasty: MongoDocuments, operation: Operation
) -> None:
    started = time.monotonic()
    with failing(server, COMMANDS, **HANGING):
        await refused(operation(hasty), ServerUnavailable)
    assert time.monotonic() - started < HASTY + SLACK


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_connection_cut_again_and_again_is_unavailable(
    server: MongoDB, documents: MongoDocuments, hasty: MongoDocuments, operation: Operation
) -> None:
    with failing(server, COMMANDS, closeConnection=True):
        await refused(operation(hasty), ServerUnavailable)
    await operation(documents)


LASTING = ("insert", "project", "settle", "hold_lease", "release_lease")


@pytest.mark.parametrize("operation", [OPERATIONS[name] for name in LASTING], ids=LASTING)
async def test_a_write_that_no_majority_has_is_unavailable(
    server: MongoDB, hasty: MongoDocuments, operation: Operation
) -> None:
    with failing(server, ["insert", "update", "delete"], writeConcernError=UNSURE):
        await refused(operation(hasty), ServerUnavailable)


async def test_documents_that_no_majority_has_are_unavailable_also_beside_later_ones(
    server: MongoDB, hasty: MongoDocuments
) -> None:
    later_is_there = [StoredDocument("u1", 1, {}), StoredDocument("u3", 1, {})]
    with failing(server, ["update"], writeConcernError=UNSURE):
        await refused(hasty.project(later_is_there), ServerUnavailable)
    await hasty.project(later_is_there)
    assert await hasty.versions(["u1", "u3"]) == {"u1": 1, "u3": 1}


# What would keep a document out


async def test_a_unique_index_on_the_documents_is_refused(
    server: MongoDB, documents: MongoDocuments, prefix: str
) -> None:
    """A document must never be kept out when its event is stored."""
    with MongoClient[dict[str, Any]](server.url) as client:
        client[prefix].users.create_index("name", name="one_of_each", unique=True)
        with pytest.raises(Misconfigured, match="one_of_each"):
            await documents.prepare()
        clashing = StoredDocument("u2", 1, {"name": "ann"})
        other = StoredDocument("u3", 1, {"name": "bob"})
        assert "one_of_each" in await refused(documents.project([clashing, other]), Misconfigured)
        assert await documents.versions(["u2", "u3"]) == {"u3": 1}
        client[prefix].users.drop_index("one_of_each")
        client[prefix].users.create_index("name")
        await documents.prepare()
        await documents.project([clashing, other])
        assert await documents.versions(["u2", "u3"]) == {"u2": 1, "u3": 1}


async def test_two_collections_on_one_event_collection_are_refused_by_name(
    server: MongoDB, documents: MongoDocuments, prefix: str
) -> None:
    async with open_document_store(
        *(server.url, prefix, "orders", "users.events"),
        version_field="version",
        partitions=1,
        timeout=PATIENT,
    ) as other:
        with pytest.raises(Misconfigured, match=r"users.events has the events of .*'users'"):
            await other.prepare()
    await documents.prepare()


CURSORS = ("5", "[]", "{}", '{"_data": 5}', '{"_data": "zz"}', '{"_data": "8266"}', "no JSON")


@pytest.mark.parametrize("cursor", CURSORS)
async def test_what_is_no_cursor_of_a_watch_is_refused(
    documents: MongoDocuments, cursor: str
) -> None:
    with pytest.raises(InvalidCursor, match="is no cursor"):
        async with documents.feed(cursor):
            pass


async def test_a_client_without_a_timeout_waits_for_no_server_for_ever(
    server: MongoDB, documents: MongoDocuments, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.stores.mongo.client.DEFAULT_TIMEOUT_SECONDS", HASTY)
    async with (
        AsyncMongoClient[dict[str, Any]](server.url, appname="eventfleet") as own,
        opened(own, prefix, PATIENT) as store,
    ):
        with failing(server, ["aggregate"], **HANGING):
            await refused(watched(store), ServerUnavailable)
        async with store.feed(None) as items:
            with failing(server, ["aggregate", "getMore"], **HANGING):
                await refused(anext(items), ServerUnavailable)  # type: ignore[arg-type]
