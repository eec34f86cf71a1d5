"""The document store on MongoDB: a collection of documents, and one of their events."""

import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

import pymongo
from bson import json_util
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from eventfleet.stores.contracts.documents import DocumentTail, FeedItem, StoredDocument
from eventfleet.stores.errors import InvalidCursor, Misconfigured
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.dead_letters import MongoDeadLetters
from eventfleet.stores.mongo.documents import Document, to_event, unplaced_document
from eventfleet.stores.mongo.errors import translate_errors, without_taken_keys
from eventfleet.stores.mongo.events import MongoEvents
from eventfleet.stores.mongo.indexes import BY_VERSION, BY_VERSION_DOWN, refuse_unique_indexes
from eventfleet.stores.mongo.operation import operation
from eventfleet.stores.mongo.outbox import pending_fields
from eventfleet.stores.mongo.put_transactions import (
    insert_all,
    is_aborted,
    open_transaction,
    unblocking,
)
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

DELETED = "_deleted"
"""The field of a tombstone; other programs that read the collection leave such documents out."""

PROJECTION = "projection"
"""What stands for an aggregate's id in the transactions that write documents."""

MAX_WAIT_SECONDS = 1.0
"""How long the server lets a feed wait for an event before it answers that there is none."""

VERSION_TYPES = ["int", "long", "double"]
"""The BSON types of a version; a document whose version field has another one has no version."""

REFUSED_CURSOR_CODES = frozenset({9, 136, 260, 280, 286, 40647})


class MongoDocuments:
    """DocumentStore on two collections of one database."""

    def __init__(
        self,
        domain: str,
        documents: client.Collection,
        events: client.Collection,
        domains: client.Collection,
        leases: client.Collection,
        letters: client.Collection,
        version_field: str,
        partitions: int,
    ) -> None:
        self._domain, self._partitions = domain, partitions
        self._documents, self._events, self._domains = documents, events, domains
        self._store = MongoEvents(domain, events, domains, leases)
        self.outbox, self.letters = self._store.outbox, MongoDeadLetters(letters)
        self._version_field = version_field

    async def prepare(self) -> None:
        await self._check_owner()
        await self._store.prepare()
        await self.outbox.prepare()
        await self.letters.prepare()
        with operation("prepare", self._documents):
            await refuse_unique_indexes(self._documents)

    async def _check_owner(self) -> None:
        """Misconfigured: the events are those of another collection of documents."""
        name = self._events.name
        with operation("registry", self._domains):
            other = await self._domains.find_one({"events": name, "_id": {"$ne": self._domain}})
            if other is None:
                noted = {"$set": {"events": name}}
                await self._domains.update_one({"_id": self._domain}, noted, upsert=True)
                return
        raise Misconfigured(
            f"{client.full_name(self._events)} has the events of the collection"
            f" {other['_id']!r}: give {self._domain!r} an event collection of its own"
        )

    async def load(
        self, id: Any, aggregate_id: str, *, may_be_absent: bool = False
    ) -> DocumentTail:
        # Two plain finds, which every server answers by its indexes. The event of the document's
        # own version tells whether it has events.
        with operation("find", self._documents):
            stored = await self._documents.find_one({"_id": id})
        if stored is None and may_be_absent:
            return DocumentTail(None, [], is_adopted=False)
        document = self._to_document(stored) if stored else None
        version = document.version if document else 0
        wanted = {"aggregate_id": aggregate_id, "version": {"$gte": version}}
        with operation("find", self._events):
            found = await self._events.find(wanted).sort(BY_VERSION).to_list(None)
        tail = [to_event(self._domain, each) for each in found if each["version"] > version]
        is_adopted = document is not None and not found and not await self.head(aggregate_id)
        return DocumentTail(document, tail, is_adopted)

    async def head(self, aggregate_id: str, after: int = 0) -> int:
        wanted = {"aggregate_id": aggregate_id, "version": {"$gt": after}}
        with operation("find", self._events):
            found = await self._events.find_one(wanted, {"version": 1}, sort=BY_VERSION_DOWN)
        return found["version"] if found else 0

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        return await self._store.version_at(aggregate_id, moment)

    async def lost(self) -> list[str]:
        ids: list[Document] = [{"$group": {"_id": "$aggregate_id"}}]
        with operation("find", self._documents):
            if await self._documents.estimated_document_count():
                return []
            found = await client.maybe_await(self._events.aggregate(ids))
            return [each["_id"] async for each in found]

    async def is_run_by_fleet(self) -> bool:
        return await self._store.registry.partition_count() is not None

    async def insert(self, event: EventRecord, *, to_publish: bool) -> None:
        partition = partition_of(event.aggregate_id, self._partitions)
        pending = pending_fields(event, to_publish=to_publish)
        with operation("put", self._events, [event]):
            await insert_all(self._events, [unplaced_document(event, partition) | pending])

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        # Where the filter matches nothing and the insertion clashes, a later version is there, or
        # a document without a version.
        first = [self._replacement(each, {"$lt": each.version}, upsert=True) for each in documents]
        with operation("write", self._documents):
            async with unblocking(self._documents, [PROJECTION]):
                if len(first) > 1 and await self._replace_at_once(first):
                    return
                if clashed := await self._replace(first):
                    unversioned = {"$not": {"$type": VERSION_TYPES}}
                    rest = [documents[n] for n in clashed]
                    await self._replace([self._replacement(each, unversioned) for each in rest])

    async def _replace_at_once(self, requests: Sequence[ReplaceOne[Document]]) -> bool:
        """Replace in one transaction, since servers may sync each write of a bulk alone; False:
        something is in the way of one, and nothing is replaced."""
        try:
            async with open_transaction(self._documents, PROJECTION) as session:
                await self._documents.bulk_write(requests, session=session)
        except PyMongoError as error:
            if isinstance(error, BulkWriteError) or is_aborted(error):
                return False
            raise
        return True

    async def _replace(self, requests: Sequence[ReplaceOne[Document]]) -> list[int]:
        """Replace, each by itself; return which ones could not be inserted."""
        try:
            await self._documents.bulk_write(requests, ordered=False)
        except BulkWriteError as error:
            if rest := without_taken_keys(error):
                raise rest from None
            return [each["index"] for each in (error.details or {})["writeErrors"]]
        return []

    async def versions(self, ids: Collection[Any]) -> dict[Any, int]:
        wanted = {"_id": {"$in": list(ids)}}
        query = self._documents.find(wanted, {self._version_field: 1})
        with operation("find", self._documents):
            found = await query.to_list(None)
        return {each["_id"]: _version(each.get(self._version_field)) for each in found}

    async def find(
        self,
        where: Mapping[str, Any],
        sort: Sequence[tuple[str, int]],
        skip: int,
        limit: int,
    ) -> list[StoredDocument]:
        present = {DELETED: {"$exists": False}}
        wanted = {"$and": [where, present]} if DELETED in where else {**where, **present}
        query = self._documents.find(wanted)
        with operation("find", self._documents):
            found = (
                await query.sort(list(sort) or [("_id", 1)]).skip(skip).limit(limit).to_list(None)
            )
        return [self._to_document(each) for each in found]

    def changes(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        return self._store.read(aggregate_id, after, limit=limit)

    @asynccontextmanager
    async def feed(self, cursor: str | None) -> AsyncIterator[AsyncIterator[FeedItem]]:
        inserted = [{"$match": {"operationType": "insert"}}]
        token = _decode_token(cursor) if cursor else None
        where, seconds = client.full_name(self._events), client.timeout_seconds(self._events)
        # The server answers a wait without an event before the driver takes it for dead.
        wait_ms = int(min(MAX_WAIT_SECONDS, seconds / 2) * 1000)
        watching = self._events.watch(inserted, resume_after=token, max_await_time_ms=wait_ms)
        with operation("feed", self._events), _refusing(cursor, where) if cursor else nullcontext():
            stream = await client.maybe_await(watching)
        try:
            async with aclosing(self._items(stream, cursor, where, seconds)) as items:
                yield items
        finally:
            with pymongo.timeout(seconds):
                await stream.close()

    async def _items(
        self, stream: Any, cursor: str | None, where: str, seconds: float
    ) -> AsyncGenerator[FeedItem, None]:
        while stream.alive:
            with translate_errors(where), _refusing(cursor, where), pymongo.timeout(seconds):
                each = await stream.try_next()
            if each is not None:
                event = to_event(self._domain, each["fullDocument"])
                cursor = str(json_util.dumps(each["_id"]))
                yield FeedItem(event, cursor)

    def _replacement(
        self, document: StoredDocument, version: Document, *, upsert: bool = False
    ) -> ReplaceOne[Document]:
        fields: Document = {DELETED: True} if document.fields is None else document.fields
        stored = {**fields, self._version_field: document.version}
        return ReplaceOne({"_id": document.id, self._version_field: version}, stored, upsert)

    def _to_document(self, stored: Document) -> StoredDocument:
        fields = dict(stored)
        id, version = fields.pop("_id"), _version(fields.pop(self._version_field, None))
        return StoredDocument(id, version, None if DELETED in fields else fields)


@contextmanager
def _refusing(cursor: str | None, where: str) -> Iterator[None]:
    """InvalidCursor: the server can't go on, at whatever call it says so."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in REFUSED_CURSOR_CODES:
            raise
        raise InvalidCursor(
            f"{cursor!r} is no cursor of {where}, or the server's history does not reach back to"
            " it: read the documents, and watch from now on"
        ) from None


def _version(stored: Any) -> int:
    """Return the version of a stored document: 1 where another program has put none, or no number.

    It must agree with VERSION_TYPES, by which the server decides.
    """
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    return int(stored) if is_number else 1


def _decode_token(cursor: str) -> Any:
    with suppress(json.JSONDecodeError, TypeError, ValueError):
        if isinstance(token := json_util.loads(cursor), dict):
            return token
    raise InvalidCursor(f"{cursor!r} is no cursor of a watch")
