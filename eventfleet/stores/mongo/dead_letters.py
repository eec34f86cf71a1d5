"""The dead-letter store on MongoDB: one collection, `<domain>.dead_letters`.

A parked aggregate is the document `<role>/<aggregate id>`, a discarded event
`discarded/<role>/<version>/<aggregate id>`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
from pymongo import UpdateOne

from eventfleet.stores.contracts.dead_letters import (
    ParkedQuery,
    RedriveRequest,
)
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document
from eventfleet.stores.mongo.indexes import DEAD_LETTER_INDEXES, ensure_indexes
from eventfleet.stores.mongo.operation import operation, split_items
from eventfleet.stores.mongo.transactions import insert_each
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate

PARKED = {"first": {"$gte": 0}}
"""The filter of parked aggregates, which the partial indexes have as well."""
LAST_CHARACTER = "\U0010ffff"
"""No text has it; so all that begins with a text is below that text and this."""


class MongoDeadLetters:
    """DeadLetterStore of one domain."""

    def __init__(self, letters: client.Collection) -> None:
        self._letters = letters

    async def prepare(self) -> None:
        with operation("prepare", self._letters):
            await ensure_indexes(self._letters, DEAD_LETTER_INDEXES)

    async def parked_in(self, role: str, partition: int) -> list[ParkedAggregate]:
        wanted = {"role": role, "partition": partition, **PARKED}
        with operation("read_dead_letters", self._letters):
            found = await self._letters.find(wanted).to_list(None)
        return [_parked(each) for each in found]

    async def park(self, parked: Sequence[ParkedAggregate]) -> None:
        """Insert them, and change those that are there: a server may sync each change alone, but
        all inserts of a write together."""
        if not parked:
            return
        documents = [
            {"_id": _id(p.role, p.aggregate_id), **msgspec.structs.asdict(p)} for p in parked
        ]
        with operation("save_dead_letters", self._letters):
            known = await insert_each(self._letters, documents)
            changes = [
                UpdateOne({"_id": documents[n]["_id"]}, {"$set": documents[n]}, upsert=True)
                for n in known
            ]
            if changes:
                await self._letters.bulk_write(changes, ordered=False)

    async def unpark(self, role: str, aggregate_ids: Collection[str]) -> None:
        for part in split_items(aggregate_ids):
            with operation("save_dead_letters", self._letters):
                await self._letters.delete_many({"_id": {"$in": [_id(role, id) for id in part]}})

    async def find(self, query: ParkedQuery, limit: int) -> list[ParkedAggregate]:
        found: list[Document] = []
        with operation("read_dead_letters", self._letters):
            for wanted in _pages(query):
                page = self._letters.find(wanted).sort([("role", 1), ("aggregate_id", 1)])
                found += await page.limit(limit - len(found)).to_list(None)
                if len(found) == limit:
                    break
        return [_parked(each) for each in found]

    async def count(self) -> dict[str, int]:
        pipeline: list[Document] = [
            {"$match": PARKED},
            {"$group": {"_id": "$role", "parked": {"$sum": 1}}},
        ]
        with operation("read_dead_letters", self._letters):
            found = await client.maybe_await(self._letters.aggregate(pipeline))
            return {each["_id"]: each["parked"] async for each in found}

    async def request(self, parked: ParkedAggregate, discard: Discard | None) -> bool:
        if discard is None:
            return bool(await self.request_redrives([parked]))
        key: Document = {"_id": _id(parked.role, parked.aggregate_id), "first": parked.first}
        requested = {"first": parked.first, "discard": msgspec.to_builtins(discard)}
        with operation("save_dead_letters", self._letters):
            done = await self._letters.update_one(key, {"$set": {"requested": requested}})
            return bool(done.matched_count)

    async def request_redrives(self, parked: Sequence[ParkedAggregate]) -> int:
        if not parked:
            return 0
        first = {_id(each.role, each.aggregate_id): each.first for each in parked}
        with operation("save_dead_letters", self._letters):
            for version in sorted({*first.values()}):
                keys = [key for key, each in first.items() if each == version]
                requested = {"$set": {"requested": {"first": version, "discard": None}}}
                # Where no discard is requested of the same event.
                for free in ({"requested.discard": None}, {"requested.first": {"$ne": version}}):
                    wanted = {"_id": {"$in": keys}, "first": version, **free}
                    await self._letters.update_many(wanted, requested)
            found = self._letters.find({"_id": {"$in": [*first]}}, {"first": 1})
            return sum(
                first[each["_id"]] == each.get("first") for each in await found.to_list(None)
            )

    async def requests(self, role: str, partition: int, limit: int) -> list[RedriveRequest]:
        wanted = {"role": role, "partition": partition, "requested.first": {"$gte": 0}, **PARKED}
        with operation("read_dead_letters", self._letters):
            found = self._letters.find(wanted, {"aggregate_id": 1, "requested": 1})
            found = found.sort("aggregate_id", 1).limit(limit)
            return [_request(each) for each in await found.to_list(None)]

    async def end_request(self, role: str, request: RedriveRequest) -> None:
        key = {
            "_id": _id(role, request.aggregate_id),
            "requested.first": request.first,
            "requested.discard": request.discard and msgspec.to_builtins(request.discard),
        }
        with operation("save_dead_letters", self._letters):
            await self._letters.update_one(key, {"$unset": {"requested": ""}})

    async def note_discarded(self, events: Collection[DiscardedEvent]) -> None:
        if events:
            with operation("save_dead_letters", self._letters):
                await insert_each(self._letters, [_discard_document(each) for each in events])

    async def discarded(self, role: str, aggregate_ids: Collection[str]) -> list[DiscardedEvent]:
        events: list[DiscardedEvent] = []
        for part in split_items(aggregate_ids):
            events += await self._find_discarded(role, {"aggregate_id": {"$in": part}})
        return sorted(events, key=lambda each: (each.aggregate_id, each.version))

    async def discarded_by(self, role: str) -> list[DiscardedEvent]:
        events = await self._find_discarded(role, {})
        return sorted(events, key=lambda each: (each.aggregate_id, each.version))

    async def _find_discarded(self, role: str, condition: Document) -> list[DiscardedEvent]:
        wanted = {"role": role, "version": {"$gte": 0}, **condition}
        with operation("read_dead_letters", self._letters):
            return [*map(_discarded, await self._letters.find(wanted).to_list(None))]


def _id(role: str, aggregate_id: str) -> str:
    return f"{role}/{aggregate_id}"


def _pages(query: ParkedQuery) -> Iterator[Document]:
    """Yield flat filters of what a query finds: the rest of a role, and then the roles behind."""
    role, aggregate_id = query.after
    wanted: Document = {}
    if query.aggregate_id:
        wanted["aggregate_id"] = {"$eq": query.aggregate_id}
        if query.role:
            wanted["_id"] = _id(query.role, query.aggregate_id)
    if query.reason:
        wanted["reason"] = {"$gte": query.reason, "$lt": query.reason + LAST_CHARACTER}
    if not any(query.after):
        yield ({"role": query.role} if query.role else {}) | wanted | PARKED
        return
    if query.role in (None, "", role):
        rest = {**wanted.get("aggregate_id", {}), "$gt": aggregate_id}
        yield {"role": role, **wanted, "aggregate_id": rest, **PARKED}
    if query.role != role:
        behind = {"$gt": role, **({"$eq": query.role} if query.role else {})}
        yield {"role": behind, **wanted, **PARKED}


def _fields(document: Document, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: document[name] for name in kind.__struct_fields__ if name in document}


def _discard_document(event: DiscardedEvent) -> Document:
    fields = msgspec.structs.asdict(event) | {"discard": msgspec.to_builtins(event.discard)}
    return {"_id": f"discarded/{event.role}/{event.version}/{event.aggregate_id}", **fields}


def _parked(document: Document) -> ParkedAggregate:
    return ParkedAggregate(**_fields(document, ParkedAggregate))


def _request(document: Document) -> RedriveRequest:
    requested = document["requested"]
    discard = requested["discard"]
    return RedriveRequest(
        document["aggregate_id"],
        requested["first"],
        discard and msgspec.convert(discard, Discard),
    )


def _discarded(document: Document) -> DiscardedEvent:
    fields = _fields(document, DiscardedEvent)
    return DiscardedEvent(**fields | {"discard": msgspec.convert(fields["discard"], Discard)})
