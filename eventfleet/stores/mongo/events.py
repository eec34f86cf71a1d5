"""The event store on MongoDB."""

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from pymongo import InsertOne, UpdateOne

from eventfleet.stores.contracts import (
    AssignPosition,
    Head,
    Page,
    ParkEvent,
    PlaceParked,
    RefuseParked,
    Tail,
    TailQuery,
    VersionRange,
    Write,
)
from eventfleet.stores.cursors import FeedPoint, decode_cursor, encode_cursor
from eventfleet.stores.errors import Duplicate
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import (
    PARKED_EPOCH,
    PARKED_OFFSET,
    PLACED,
    Document,
    document_id,
    event_id,
    is_parked,
    key_filter,
    parked_before,
    parked_document,
    parked_fields,
    placed_document,
    position_fields,
    to_event,
    unplaced_document,
)
from eventfleet.stores.mongo.domain_metadata import DomainMetadata
from eventfleet.stores.mongo.errors import to_duplicate, translate_errors
from eventfleet.stores.mongo.feed import DomainFeed
from eventfleet.stores.mongo.indexes import (
    BY_VERSION,
    BY_VERSION_DOWN,
    EVENT_INDEXES,
    ensure_indexes,
)
from eventfleet.stores.mongo.operation import gather_split, operation, split_items
from eventfleet.stores.mongo.outbox import MongoOutbox, pending_fields
from eventfleet.stores.mongo.put_transactions import insert_all, unblocking
from eventfleet.stores.mongo.resumed_read import resume_read
from eventfleet.stores.mongo.transactions import insert_each, insert_in_order
from eventfleet.stores.server_calls import counted_failures
from eventfleet.topics.event import EventKey, EventRecord, Position, truncate_to_milliseconds

NEWEST_FIRST = {"aggregate_id": -1, "version": -1}
READ_BATCH_EVENTS = 500
INSERTS = {EventRecord, ParkEvent}
"""The writes that only insert."""


class MongoEvents:
    """EventStore with the events in one collection; metadata and leases of domains in others."""

    def __init__(
        self,
        domain: str,
        events: client.Collection,
        domains: client.Collection,
        leases: client.Collection,
    ) -> None:
        self._domain = domain
        self._events = events
        self.registry = DomainMetadata(domain, domains)
        self.outbox = MongoOutbox(domain, events, leases)
        self._feed = DomainFeed(domain, events, self.registry)

    async def prepare(self) -> None:
        with operation("prepare", self._events):
            stored = await self._events.find_one({}, {"_id": 1}) is not None
            await self.registry.register_schema(stored=stored)
            await ensure_indexes(self._events, EVENT_INDEXES)

    async def write(self, writes: Sequence[Write]) -> None:
        if not {type(write) for write in writes} <= INSERTS:
            await self._write_mixed(writes)
        elif writes:
            await self._insert(cast(Sequence[EventRecord | ParkEvent], writes))

    async def _insert(self, writes: Sequence[EventRecord | ParkEvent]) -> None:
        documents = [_inserted_document(write) for write in writes]
        events = [write if isinstance(write, EventRecord) else write.event for write in writes]
        await self.registry.add_partitions({document["partition"] for document in documents})
        with operation("write", self._events, events):
            await insert_in_order(self._events, documents)

    async def _write_mixed(self, writes: Sequence[Write]) -> None:
        await self.registry.add_partitions({*map(_partition, writes)})
        requests = [
            (index, each) for index, write in enumerate(writes) for each in _requests(write)
        ]
        written = [writes[n] for n, _ in requests]
        events = [write if isinstance(write, EventRecord) else write.event for write in written]
        try:
            with operation("write", self._events, events):
                await self._events.bulk_write([each for _, each in requests], ordered=True)
        except Duplicate as error:
            error.index = requests[error.index][0]
            raise

    async def put(
        self, events: Sequence[EventRecord], partition: int, *, to_publish: bool = False
    ) -> None:
        if not events:
            return
        documents = [unplaced_document(event, partition) for event in events]
        if to_publish:
            for document, event in zip(documents, events, strict=True):
                document.update(pending_fields(event, to_publish=True))
        with operation("put", self._events, events):
            await insert_all(self._events, documents)

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        with operation("find", self._events):
            parts = await gather_split(keys, self._find)
        return {event.key: event for part in parts for event in part}

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        documents = [unplaced_document(event, partition) for event, partition in events]
        aggregate_ids = [event.aggregate_id for event, _ in events]
        with operation("put", self._events):
            async with unblocking(self._events, aggregate_ids):
                clashes = await insert_each(self._events, documents)
        return [
            to_duplicate(0, clashes[index], [event]) if index in clashes else None
            for index, (event, _) in enumerate(events)
        ]

    async def tails(self, queries: Sequence[TailQuery], limit: int) -> list[Tail] | None:
        keys = {EventKey(q.aggregate_id, each) for q in queries for each in (q.event_id, *q.seen)}
        above = [{"aggregate_id": q.aggregate_id, "version": {"$gt": q.after}} for q in queries]
        found = self._events.find({"$or": [key_filter(keys), *above]}).sort(BY_VERSION)
        with operation("tails", self._events):
            documents = await found.limit(limit + len(keys) + 1).to_list(None)
        events = [(to_event(self._domain, each), is_parked(each)) for each in documents]
        tails = _tails(events, queries)
        return tails if sum(len(tail.events) for tail in tails) <= limit else None

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        with operation("heads", self._events):
            parts = await gather_split(aggregate_ids, self._heads)
            heads = {aggregate_id: head for part in parts for aggregate_id, head in part.items()}
            unplaced = {key: head for key, head in heads.items() if not head.placed}
            return heads | await self._placed(unplaced)

    async def mark_discarded(self, key: EventKey, *, parked: bool = False) -> None:
        wanted = key_filter([key]) | ({PARKED_OFFSET: {"$gte": 0}} if parked else {})
        with operation("write", self._events):
            await self._events.update_one(wanted, {"$set": {"discarded": True}})

    async def unplaced(self, ranges: Collection[VersionRange]) -> list[EventRecord]:
        found: list[EventRecord] = []
        for part in split_items(sorted(ranges)):
            while part:
                page = await self._unplaced(part)
                found += page
                part = _beyond(page[-1], part) if len(page) == READ_BATCH_EVENTS else []
        return found

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        offsets: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for epoch, partition, offset in positions:
            offsets[epoch, partition].add(offset)
        with operation("find", self._events):
            return [
                event
                for (epoch, partition), wanted in sorted(offsets.items())
                for part in split_items(sorted(wanted))
                for event in await self._all(
                    self._events.find(
                        {"epoch": epoch, "partition": partition, "offset": {"$in": part}}
                    ).sort([("offset", 1), ("version", 1)])
                )
            ]

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        with operation("unplaced", self._events):
            found = self._events.find({"unplaced": partition})
            return await self._all(found.sort(BY_VERSION).limit(limit))

    def read(
        self,
        aggregate_id: str,
        after: int = 0,
        up_to: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        return resume_read(partial(self._read, aggregate_id, up_to, types), after, limit)

    async def _read(
        self,
        aggregate_id: str,
        up_to: int | None,
        types: Collection[str] | None,
        after: int,
        limit: int | None,
    ) -> AsyncGenerator[EventRecord, None]:
        if limit == 0:
            return
        versions = {"$gt": after} | ({} if up_to is None else {"$lte": up_to})
        wanted: Document = {"aggregate_id": aggregate_id, "version": versions}
        if types is not None:
            wanted["type"] = {"$in": list(types)}
        found = self._events.find(wanted, batch_size=READ_BATCH_EVENTS).sort(BY_VERSION)
        where = client.full_name(self._events)
        with counted_failures("mongodb", "read"), translate_errors(where):
            async for document in found.limit(limit or 0):
                if is_parked(document):
                    return  # and so are all that follow
                yield to_event(self._domain, document)

    async def read_all(
        self, aggregate_ids: Collection[str], limit: int
    ) -> list[EventRecord] | None:
        wanted = {"aggregate_id": {"$in": list(set(aggregate_ids))}}
        found = self._events.find(wanted).sort(BY_VERSION)
        with operation("read", self._events):
            documents = await found.limit(limit + 1).to_list(None)
        events = [to_event(self._domain, each) for each in documents if not is_parked(each)]
        return events if len(documents) <= limit else None

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        wanted = {
            "aggregate_id": aggregate_id,
            "time": {"$lte": truncate_to_milliseconds(moment)},
            PARKED_OFFSET: {"$exists": False},
        }
        found = self._events.find(wanted, {"_id": 0, "version": 1})
        with operation("read", self._events):
            newest = await found.sort(BY_VERSION_DOWN).limit(1).to_list(1)
        return newest[0]["version"] if newest else 0

    async def feed(self, cursor: str, limit: int) -> Page:
        return await self._feed.page(cursor, limit)

    async def placed(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        return await self._feed.behind(point, limit)

    async def last_placed(self, partition: int) -> FeedPoint:
        return await self._feed.end(partition)

    async def parked(self) -> set[str]:
        wanted = {"unplaced": {"$gte": 0}, PARKED_OFFSET: {"$gte": 0}}
        with operation("find", self._events):
            return {*await self._events.distinct("aggregate_id", wanted)}

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        listing = f"{self._domain}.aggregates"
        last = decode_cursor(listing, cursor, str) if cursor else ""
        wanted: Document = {"version": 1, "aggregate_id": {"$gt": last}}
        if partition is not None:
            wanted["partition"] = partition
        found = self._events.find(wanted, {"_id": 0, "aggregate_id": 1})
        with operation("read", self._events):
            page = await found.sort("aggregate_id", 1).limit(limit).to_list(limit)
        ids = [document["aggregate_id"] for document in page]
        return Page(ids, encode_cursor(listing, ids[-1]) if ids else cursor)

    async def newest_epoch(self) -> int:
        newest = [("epoch", -1), ("partition", -1), ("offset", -1), ("version", -1)]
        with operation("read", self._events):
            found = self._events.find({"epoch": {"$gte": 0}}, {"_id": 0, "epoch": 1}).sort(newest)
            events = await found.limit(1).to_list(1)
        return events[0]["epoch"] if events else 0

    async def count(self) -> int:
        with operation("read", self._events):
            counted: int = await self._events.count_documents({}, hint="_id_")
        return counted

    async def _find(self, keys: list[EventKey]) -> list[EventRecord]:
        return await self._all(self._events.find(key_filter(keys)))

    async def _heads(self, aggregate_ids: list[str]) -> dict[str, Head]:
        """Query the heads; `placed` is 0 for now where the head itself is unplaced."""
        newest = {
            name: {"$first": f"${name}"} for name in ("version", "offset", "type", PARKED_OFFSET)
        }
        pipeline: list[Document] = [
            {"$match": {"aggregate_id": {"$in": aggregate_ids}}},
            {"$sort": NEWEST_FIRST},
            {"$group": {"_id": "$aggregate_id", "key": {"$first": "$_id"}, **newest}},
        ]
        found = await client.maybe_await(self._events.aggregate(pipeline))
        return {each["_id"]: _head(each) async for each in found}

    async def _placed(self, unplaced: Mapping[str, Head]) -> dict[str, Head]:
        """Complete unplaced heads with what is placed below them; some may be placed by now."""
        lowest: dict[str, int] = {}
        for ids in split_items(unplaced):
            pipeline: list[Document] = [
                {"$match": {"unplaced": {"$gte": 0}, "aggregate_id": {"$in": ids}}},
                {"$group": {"_id": "$aggregate_id", "version": {"$min": "$version"}}},
            ]
            found = await client.maybe_await(self._events.aggregate(pipeline))
            lowest |= {each["_id"]: each["version"] async for each in found}
        return {
            key: head._replace(placed=min(lowest.get(key, head.version + 1) - 1, head.version))
            for key, head in unplaced.items()
        }

    async def _unplaced(self, ranges: Sequence[VersionRange]) -> list[EventRecord]:
        """Read one page of the unplaced events in these ranges."""
        wanted = [
            {"aggregate_id": aggregate_id, "version": {"$gt": after, "$lte": up_to}}
            for aggregate_id, after, up_to in ranges
        ]
        with operation("unplaced", self._events):
            # `unplaced` within each range would keep some servers from the index of versions.
            found = self._events.find({"unplaced": {"$gte": 0}, "$or": wanted}).sort(BY_VERSION)
            return await self._all(found.limit(READ_BATCH_EVENTS))

    async def _all(self, query: Any) -> list[EventRecord]:
        return [to_event(self._domain, document) for document in await query.to_list(None)]


def _partition(write: Write) -> int:
    if isinstance(write, EventRecord):
        return Position.parse(write.position or "").partition
    return write.position.partition


def _inserted_document(write: EventRecord | ParkEvent) -> Document:
    if isinstance(write, EventRecord):
        return placed_document(write)
    return parked_document(write.event, write.position)


def _requests(write: Write) -> list[InsertOne[Document] | UpdateOne]:
    match write:
        case EventRecord() | ParkEvent():
            return [InsertOne(_inserted_document(write))]
        case AssignPosition(event, position):
            return [
                UpdateOne(
                    {
                        "_id": document_id(event.key),
                        "aggregate_id": event.aggregate_id,
                        "offset": {"$exists": False},
                    },
                    {"$set": position_fields(position), "$unset": PLACED},
                )
            ]
        case PlaceParked(event, position):
            gone = PLACED | {PARKED_EPOCH: "", PARKED_OFFSET: ""}
            change = {"$set": position_fields(position), "$unset": gone}
        case RefuseParked(event, position):
            change = {"$set": parked_fields(position)}
    return [UpdateOne(parked, change) for parked in parked_before(event, position)]


def _tails(events: Sequence[tuple[EventRecord, bool]], queries: Sequence[TailQuery]) -> list[Tail]:
    """Sort out which of the events, given with whether they are parked, each query asked for."""
    by_key = {event.key: event for event, _ in events}
    streams: defaultdict[str, list[EventRecord]] = defaultdict(list)
    for event, parked in events:
        if not parked:
            streams[event.aggregate_id].append(event)
    return [
        Tail(
            [e for e in streams[aggregate_id] if e.version > after],
            by_key.get(EventKey(aggregate_id, event_id)),
            tuple(by_key[k] for each in seen if (k := EventKey(aggregate_id, each)) in by_key),
        )
        for aggregate_id, after, event_id, seen in queries
    ]


def _beyond(last: EventRecord, ranges: Sequence[VersionRange]) -> list[VersionRange]:
    """Return what remains of ordered ranges behind an event."""
    return [
        each._replace(after=last.version) if each.aggregate_id == last.aggregate_id else each
        for each in ranges
        if each.aggregate_id >= last.aggregate_id
    ]


def _head(newest: Mapping[str, Any]) -> Head:
    placed = 0 if newest.get("offset") is None else newest["version"]
    parked = newest.get(PARKED_OFFSET) is not None
    return Head(newest["version"], event_id(newest["key"]), placed, newest["type"], parked)
