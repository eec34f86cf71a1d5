"""The document store on MongoDB: a collection of documents, and one of their events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import json_util
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from eventfleet.stores.contracts.documents import DocumentTail, FeedItem, StoredDocument
from eventfleet.stores.errors import InvalidCursor
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document, document_id, to_event, unplaced_document
from eventfleet.stores.mongo.errors import DUPLICATE_KEY, translate_errors
from eventfleet.stores.mongo.events import BY_VERSION, MongoEvents
from eventfleet.stores.mongo.indexes import PENDING, ensure_indexes
from eventfleet.stores.mongo.operation import MAX_QUERY_ITEMS, operation, split_items
from eventfleet.stores.mongo.put_transactions import insert_all
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.partitioner import partition_of

DELETED = "_deleted"
"""The field of a tombstone; other programs that read the collection leave such documents out."""

TAIL_EVENTS = 4
"""The newest events, read with a document; where more are missing, a second query reads them."""

VERSION_TYPES = ["int", "long", "double"]
"""The BSON types of a version; a document whose version field has another one has no version."""

_SETTLED = {"$unset": {"pending": "", "to_publish": ""}}
LOST_HISTORY_CODES = frozenset({136, 260, 280, 286, 40647})


class MongoDocuments:
    """DocumentStore on two collections of one database."""

    def __init__(
        self,
        domain: str,
        documents: client.Collection,
        events: client.Collection,
        domains: client.Collection,
        leases: client.Collection,
        version_field: str,
        partitions: int,
    ) -> None:
        self._domain, self._partitions = domain, partitions
        self._documents, self._events, self._leases = documents, events, leases
        self._store = MongoEvents(domain, events, domains)
        self._version_field = version_field

    async def prepare(self) -> None:
        await self._store.prepare()
        with operation("prepare", self._events):
            await ensure_indexes(self._events, [PENDING])

    async def load(self, id: Any, aggregate_id: str) -> DocumentTail:
        newest: list[Document] = [
            {"$match": {"aggregate_id": aggregate_id}},
            {"$sort": {"aggregate_id": -1, "version": -1}},
            {"$limit": TAIL_EVENTS},
            {"$project": {"event": "$$ROOT"}},
        ]
        pipeline: list[Document] = [
            {"$match": {"_id": id}},
            {"$project": {"document": "$$ROOT"}},
            {"$unionWith": {"coll": self._events.name, "pipeline": newest}},
        ]
        with operation("find", self._documents):
            found = await client.maybe_await(self._documents.aggregate(pipeline))
            parts = await found.to_list(None)
        documents = [self._to_document(part["document"]) for part in parts if "document" in part]
        document = documents[0] if documents else None
        version = document.version if document else 0
        events = [to_event(self._domain, part["event"]) for part in parts if "event" in part]
        tail = sorted((e for e in events if e.version > version), key=lambda e: e.version)
        if len(tail) == TAIL_EVENTS and tail[0].version > version + 1:
            tail = [event async for event in self.changes(aggregate_id, version)]
        return DocumentTail(document, tail, document is not None and not events)

    async def insert(self, event: EventRecord, *, to_publish: bool) -> None:
        partition = partition_of(event.aggregate_id, self._partitions)
        millis = int(event.time.timestamp() * 1000)
        pending = {"pending": millis, "to_publish": to_publish}
        with operation("put", self._events, [event]):
            await insert_all(self._events, [unplaced_document(event, partition) | pending])

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        # A later version is there where the filter matches nothing and the insertion clashes.
        requests = [self._replacement(document) for document in documents]
        with operation("write", self._documents):
            try:
                await self._documents.bulk_write(requests, ordered=False)
            except BulkWriteError as error:
                clashes = (error.details or {})["writeErrors"]
                if any(each.get("code") != DUPLICATE_KEY for each in clashes):
                    raise

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
        query = self._documents.find({"$and": [dict(where), {DELETED: {"$exists": False}}]})
        with operation("find", self._documents):
            found = (
                await query.sort(list(sort) or [("_id", 1)]).skip(skip).limit(limit).to_list(None)
            )
        return [self._to_document(each) for each in found]

    def changes(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        return self._store.read(aggregate_id, after, limit=limit)

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        # Writers' clocks differ: an event may seem older than the one before it.
        is_pending = {"pending": {"$gte": 0}, "to_publish": to_publish}
        oldest = self._events.find(is_pending, {"_id": 0, "aggregate_id": 1})
        with operation("find", self._events):
            found = await oldest.sort("pending", 1).limit(limit).to_list(None)
            aggregate_ids = list({each["aggregate_id"] for each in found})[:MAX_QUERY_ITEMS]
            if not aggregate_ids:
                return []
            query = self._events.find({"aggregate_id": {"$in": aggregate_ids}, **is_pending})
            events = await query.sort(BY_VERSION).limit(limit).to_list(None)
        return [to_event(self._domain, each) for each in events]

    async def settle(self, keys: Collection[EventKey]) -> None:
        for part in split_items(keys):
            settled = {
                "_id": {"$in": [document_id(key) for key in part]},
                "aggregate_id": {"$in": [key.aggregate_id for key in part]},
            }
            with operation("write", self._events):
                await self._events.update_many(settled, _SETTLED)

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        now = datetime.now(UTC)
        free = {"_id": name, "$or": [{"owner": owner}, {"until": {"$lt": now}}]}
        held = {"owner": owner, "until": now + timedelta(seconds=seconds)}
        with operation("registry", self._leases), suppress(DuplicateKeyError):
            await self._leases.update_one(free, {"$set": held}, upsert=True)
            return True
        return False

    async def release_lease(self, name: str, owner: str) -> None:
        with operation("registry", self._leases):
            await self._leases.delete_one({"_id": name, "owner": owner})

    @asynccontextmanager
    async def feed(self, cursor: str | None) -> AsyncIterator[AsyncIterator[FeedItem]]:
        inserted = [{"$match": {"operationType": "insert"}}]
        token = _decode_token(cursor) if cursor else None
        where = client.full_name(self._events)
        with translate_errors(where):
            try:
                stream = await client.maybe_await(self._events.watch(inserted, resume_after=token))
            except OperationFailure as error:
                if error.code not in LOST_HISTORY_CODES or not cursor:
                    raise
                raise InvalidCursor(
                    f"{cursor!r} is no cursor of {where}, or the server's history does not reach"
                    " back to it: read the documents, and watch from now on"
                ) from None
        async with stream, aclosing(self._items(stream)) as items:
            yield items

    async def _items(self, stream: Any) -> AsyncGenerator[FeedItem, None]:
        with translate_errors(client.full_name(self._events)):
            async for each in stream:
                event = to_event(self._domain, each["fullDocument"])
                yield FeedItem(event, _encode_token(each["_id"]))

    def _replacement(self, document: StoredDocument) -> ReplaceOne[Document]:
        version = self._version_field
        unversioned = {"$not": {"$type": VERSION_TYPES}}
        earlier = [{version: {"$lt": document.version}}, {version: unversioned}]
        fields: Document = {DELETED: True} if document.fields is None else document.fields
        stored = {**fields, version: document.version}
        return ReplaceOne({"_id": document.id, "$or": earlier}, stored, upsert=True)

    def _to_document(self, stored: Document) -> StoredDocument:
        fields = dict(stored)
        id, version = fields.pop("_id"), _version(fields.pop(self._version_field, None))
        return StoredDocument(id, version, None if DELETED in fields else fields)


def _version(stored: Any) -> int:
    """Return the version of a stored document: 1 where another program has put none, or no number.

    It must agree with VERSION_TYPES, by which the server decides.
    """
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    return int(stored) if is_number else 1


def _encode_token(token: Any) -> str:
    return str(json_util.dumps(token))


def _decode_token(cursor: str) -> Any:
    try:
        return json_util.loads(cursor)
    except (json.JSONDecodeError, TypeError, ValueError):
        raise InvalidCursor(f"{cursor!r} is no cursor of a watch") from None
