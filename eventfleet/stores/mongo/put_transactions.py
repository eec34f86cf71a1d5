"""Transactions of puts, which no process that dies or stands still leaves open for long.

The server holds an open transaction's versions until it ends: by itself after a minute, and a lost
connection ends none. So the session of a put has an id that derives from the aggregate, and
whoever finds an aggregate blocked kills its sessions. A put that was merely slow is then repeated
by its own process: to abort what is not committed is always safe.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import UUID, uuid5
from zlib import crc32

from bson import Binary
from pymongo.errors import PyMongoError

from eventfleet.stores.background_task import cancel
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.client import full_name, maybe_await
from eventfleet.stores.retry import CONFLICT, OPEN_TRANSACTION

BLOCKED_SECONDS = 0.5
"""A put that waits longer for others ends the transactions that are open on its aggregates."""
MAX_ATTEMPTS_UNBLOCKED = 4

# The server keeps a session for half an hour: there are BUCKETS * SLOTS of a collection at most.
# Several slots let two writers of one aggregate clash over its version, where the first one wins,
# rather than over the session, where the last one does.
BUCKETS, SLOTS = 4096, 8
PUT_SESSIONS = UUID("0c6f8a5e-6a55-5d3f-8f0a-8a1f6f0c2b1d")

WRITE_CONFLICT, OPERATION_IN_PROGRESS, TRANSACTION_TOO_OLD, INTERRUPTED = 112, 117, 225, 11601
ABORTED_CODES = (WRITE_CONFLICT, OPERATION_IN_PROGRESS, TRANSACTION_TOO_OLD, INTERRUPTED)

logger = logging.getLogger(__name__)


async def insert_all(collection: client.Collection, documents: Sequence[dict[str, Any]]) -> None:
    """Insert documents of one aggregate in order, in one transaction where there are several.

    ServerUnavailable when transactions of others hold the aggregate, one after the other.
    """
    if len(documents) > 1:
        await _insert_until_done(collection, documents)
        return
    async with unblocking(collection, [documents[0]["aggregate_id"]]):
        await collection.insert_one(documents[0])


@asynccontextmanager
async def unblocking(
    collection: client.Collection, aggregate_ids: Collection[str]
) -> AsyncIterator[None]:
    """End the transactions that are open on these aggregates when the block takes
    BLOCKED_SECONDS, and again after growing pauses: the server lets a write without a transaction
    wait for them."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        tasks.append(asyncio.create_task(_unblock(collection, aggregate_ids)))

    timer = asyncio.get_running_loop().call_later(BLOCKED_SECONDS, start)
    try:
        yield
    finally:
        timer.cancel()
        for task in tasks:
            await cancel(task)


async def _unblock(collection: client.Collection, aggregate_ids: Collection[str]) -> None:
    for ended in count(1):
        await end_open_transactions(collection, aggregate_ids)
        await asyncio.sleep(OPEN_TRANSACTION.pause(ended))


async def end_open_transactions(
    collection: client.Collection, aggregate_ids: Collection[str]
) -> None:
    """Abort the transactions of puts that are open on these aggregates, whosever they are."""
    sessions = [
        {"id": _session_id(collection, aggregate_id, slot)}
        for aggregate_id in aggregate_ids
        for slot in range(SLOTS)
    ]
    try:
        await maybe_await(collection.database.client.admin.command("killSessions", sessions))
    except PyMongoError as error:
        logger.warning("%s: open transactions can't be ended: %s", full_name(collection), error)


async def _insert_until_done(
    collection: client.Collection, documents: Sequence[dict[str, Any]]
) -> None:
    """Insert in one transaction, again when the server aborted it in favour of another one."""
    aggregate_id, began = documents[0]["aggregate_id"], time.monotonic()
    ahead, attempts_left = 0.0, MAX_ATTEMPTS_UNBLOCKED
    for failures in count(1):
        try:
            await _insert_once(collection, documents, ahead)
            return
        except PyMongoError as error:
            if not is_aborted(error):
                raise
            if not attempts_left:
                raise _give_up(collection, documents[0], error) from None
            if _code(error) == TRANSACTION_TOO_OLD:
                ahead = 10 * ahead or 1.0
        if time.monotonic() - began > BLOCKED_SECONDS:
            if attempts_left == MAX_ATTEMPTS_UNBLOCKED:
                await end_open_transactions(collection, [aggregate_id])
            attempts_left -= 1
        await asyncio.sleep(CONFLICT.pause(failures))


def _give_up(
    collection: client.Collection, first: dict[str, Any], error: PyMongoError
) -> Exception:
    """Return the error to raise; the server's own for a conflict names nothing."""
    if _code(error) not in ABORTED_CODES:
        return error
    where = f"{full_name(collection)}: {first['aggregate_id']!r} version {first['version']}"
    return ServerUnavailable(f"{where} is held by an open transaction of another writer")


async def _insert_once(
    collection: client.Collection, documents: Sequence[dict[str, Any]], ahead: float
) -> None:
    async with open_transaction(collection, documents[0]["aggregate_id"], ahead) as session:
        await collection.insert_many(documents, session=session)


@asynccontextmanager
async def open_transaction(
    collection: client.Collection, aggregate_id: str, ahead: float = 0.0
) -> AsyncIterator[Any]:
    """Yield the session of a transaction that `unblocking` of this id ends, should it stay open."""
    async with await maybe_await(collection.database.client.start_session()) as session:
        slot = random.randrange(SLOTS)
        _identify(session, _session_id(collection, aggregate_id, slot), ahead)
        transaction = session.start_transaction(
            write_concern=collection.write_concern, read_concern=collection.read_concern
        )
        async with await maybe_await(transaction):
            yield session


def _identify(session: Any, session_id: Binary, ahead: float) -> None:
    """Give a session this id, and a transaction number above all that it had.

    The driver has no call for it. The number is the time, and some seconds more where another
    process' clock was ahead. The driver does not use a session again that is marked dirty.
    """
    session = getattr(session, "delegate", session)  # Motor's
    assert session.session_id  # makes the driver choose its own first
    server_session = session._server_session
    server_session.mark_dirty()
    server_session.session_id = {"id": session_id}
    server_session._transaction_id = int((time.time() + ahead) * 1_000_000)


def _session_id(collection: client.Collection, aggregate_id: str, slot: int) -> Binary:
    bucket = crc32(aggregate_id.encode()) % BUCKETS
    return Binary(uuid5(PUT_SESSIONS, f"{full_name(collection)}\0{bucket}\0{slot}").bytes, 4)


def is_aborted(error: PyMongoError) -> bool:
    """Return whether the server aborted the transaction, or never began it, and undid it."""
    return error.has_error_label("TransientTransactionError") or _code(error) in ABORTED_CODES


def _code(error: PyMongoError) -> int | None:
    return getattr(error, "code", None)
