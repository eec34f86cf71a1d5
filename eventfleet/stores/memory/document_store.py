"""The document store, in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

from eventfleet.model.value_copy import copy_value
from eventfleet.stores.contracts.documents import DocumentTail, FeedItem, StoredDocument
from eventfleet.stores.document_query import DocumentQuery
from eventfleet.stores.errors import Duplicate, InvalidCursor
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.outbox import MemoryOutbox
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.event import EventRecord


class MemoryDocuments:
    """DocumentStore in memory, which shares nothing with its callers.

    `find` knows what DocumentQuery does.
    """

    def __init__(self, version_field: str = "version", yield_point: YieldPoint = no_yield) -> None:
        self._version_field, self._yield_point = version_field, yield_point
        self._documents: dict[Any, StoredDocument] = {}
        self._events: defaultdict[str, dict[int, EventRecord]] = defaultdict(dict)
        self._log: list[EventRecord] = []
        self.outbox, self.letters = MemoryOutbox(yield_point), MemoryDeadLetters(yield_point)
        self._stored = asyncio.Condition()

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def load(
        self, id: Any, aggregate_id: str, *, may_be_absent: bool = False
    ) -> DocumentTail:
        await self._yield_point()
        stored = self._documents.get(id)
        if stored is None and may_be_absent:
            return DocumentTail(None, [], is_adopted=False)
        document = stored and _copied(stored)
        version = document.version if document else 0
        events = [event async for event in self.changes(aggregate_id, version)]
        return DocumentTail(document, events, bool(document) and aggregate_id not in self._events)

    async def insert(self, event: EventRecord, *, to_publish: bool) -> None:
        await self._yield_point()
        versions = self._events[event.aggregate_id]
        if event.version in versions:
            raise Duplicate(0, f"{event.domain}/{event.aggregate_id}", event.version, "version")
        versions[event.version] = event = copy_value(event)
        self._log.append(event)
        self.outbox.unsettled[to_publish][event.key] = event
        async with self._stored:
            self._stored.notify_all()

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        await self._yield_point()
        for document in documents:
            present = self._documents.get(document.id)
            if not present or present.version < document.version:
                self._documents[document.id] = _copied(document)

    async def head(self, aggregate_id: str, after: int = 0) -> int:
        await self._yield_point()
        newest = max(self._events.get(aggregate_id, {}), default=0)
        return newest if newest > after else 0

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        await self._yield_point()
        events = self._events.get(aggregate_id, {}).values()
        return max((each.version for each in events if each.time <= moment), default=0)

    async def lost(self) -> list[str]:
        return [] if self._documents else [*self._events]

    async def is_run_by_fleet(self) -> bool:
        return False

    async def versions(self, ids: Collection[Any]) -> dict[Any, int]:
        await self._yield_point()
        return {id: self._documents[id].version for id in ids if id in self._documents}

    async def find(
        self,
        where: Mapping[str, Any],
        sort: Sequence[tuple[str, int]],
        skip: int,
        limit: int,
    ) -> list[StoredDocument]:
        query = DocumentQuery(self._version_field, where, sort)
        found = query.sorted(filter(query.matches, self._documents.values()))
        return [_copied(each) for each in found[skip : skip + limit]]

    async def changes(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        versions = self._events.get(aggregate_id, {})
        for version in sorted(v for v in versions if v > after)[:limit]:
            yield copy_value(versions[version])

    @asynccontextmanager
    async def feed(self, cursor: str | None) -> AsyncIterator[AsyncIterator[FeedItem]]:
        at = len(self._log) if cursor is None else _decode(cursor, len(self._log))
        async with aclosing(self._items(at)) as items:
            yield items

    async def _items(self, at: int) -> AsyncGenerator[FeedItem, None]:
        while True:
            async with self._stored:
                while len(self._log) <= at:
                    await self._stored.wait()
            yield FeedItem(copy_value(self._log[at]), str(at + 1))
            at += 1


class MemoryClient:
    """Collections in memory, for tests: `open_storage` and `Documents` take it as their client.

    Storages that are opened with the same one see each other's documents, as processes would.
    """

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], MemoryDocuments] = {}

    def collection(self, database: str, name: str, version_field: str) -> MemoryDocuments:
        """Return the store of a collection, made at the first call."""
        return self._stores.setdefault((database, name), MemoryDocuments(version_field))


def _copied(document: StoredDocument) -> StoredDocument:
    return document._replace(fields=copy_value(document.fields))


def _decode(cursor: str, end: int) -> int:
    if not cursor.isdecimal() or int(cursor) > end:
        raise InvalidCursor(f"{cursor!r} is no cursor of a watch")
    return int(cursor)
