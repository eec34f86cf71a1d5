"""The document store on SQLite."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import apsw

from eventfleet.stores.contracts.documents import DocumentTail, FeedItem, StoredDocument
from eventfleet.stores.document_query import DocumentQuery
from eventfleet.stores.errors import Duplicate, InvalidCursor, Misconfigured
from eventfleet.stores.sqlite.database import Database, open_database, parse_url
from eventfleet.stores.sqlite.dead_letters import SqliteDeadLetters
from eventfleet.stores.sqlite.event_table import COLUMNS, EventTable
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.extended_json import EXTENDED_JSON, dump, load
from eventfleet.stores.sqlite.outbox import PROJECT, PUBLISH
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

PAGE_DOCUMENTS = 200
PAGE_EVENTS = 200

PROJECT_ONE = """
INSERT INTO documents (collection, id, version, fields) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET version = excluded.version, fields = excluded.fields
  WHERE excluded.version > version
"""


class SqliteDocuments:
    """DocumentStore of one collection; `find` knows what DocumentQuery does."""

    def __init__(
        self,
        database: Database,
        folder: str,
        collection: str,
        events: str,
        version_field: str,
        partitions: int,
    ) -> None:
        """`folder` is the name that the collection's database has."""
        self._database, self._name = database, f"{folder}.{collection}"
        self._version_field, self._partitions = version_field, partitions
        self._table = EventTable(f"{folder}.{events}", EXTENDED_JSON, collection)
        self._events = SqliteEvents(database, self._table)
        self.outbox = self._events.outbox
        self.letters = SqliteDeadLetters(database, self._name)

    async def prepare(self) -> None:
        def note(connection: apsw.Connection) -> Any:
            events = self._table.domain
            connection.execute(
                "INSERT INTO collections VALUES (?, ?) ON CONFLICT DO NOTHING", (events, self._name)
            )
            return connection.execute(
                "SELECT collection FROM collections WHERE events = ?", (events,)
            ).get

        owner = await self._database.write(note)
        if owner != self._name:
            raise Misconfigured(
                f"{self._table.domain} has the events of the collection {owner!r}: give"
                f" {self._name!r} an event collection of its own"
            )

    async def load(
        self, id: Any, aggregate_id: str, *, may_be_absent: bool = False
    ) -> DocumentTail:
        def run(connection: apsw.Connection) -> DocumentTail:
            (document,) = self._find(connection, [id]) or (None,)
            if document is None and may_be_absent:
                return DocumentTail(None, [], is_adopted=False)
            version = document.version if document else 0
            where = "aggregate_id = ? AND version > ? ORDER BY version"
            tail = self._table.select(connection, where, aggregate_id, version)
            is_adopted = document is not None and not (tail or self._head(connection, aggregate_id))
            return DocumentTail(document, tail, is_adopted)

        return await self._database.read(run)

    async def head(self, aggregate_id: str, after: int = 0) -> int:
        newest = await self._database.read(lambda each: self._head(each, aggregate_id))
        return newest if newest > after else 0

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        return await self._events.version_at(aggregate_id, moment)

    async def lost(self) -> list[str]:
        def run(connection: apsw.Connection) -> list[str]:
            if next(self._documents(connection, 1), None):
                return []
            select = "SELECT DISTINCT aggregate_id FROM events WHERE domain = ?"
            return [str(id) for (id,) in connection.execute(select, (self._table.domain,))]

        return await self._database.read(run)

    async def is_run_by_fleet(self) -> bool:
        return False

    async def insert(self, event: EventRecord, *, to_publish: bool) -> None:
        partition = partition_of(event.aggregate_id, self._partitions)
        outbox = PUBLISH if to_publish else PROJECT

        def run(connection: apsw.Connection) -> None:
            if not self._table.insert(connection, event, partition, outbox=outbox):
                stream = f"{event.domain}/{event.aggregate_id}"
                raise Duplicate(0, stream, event.version, "version")

        await self._database.write(run)

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        rows = [
            (self._name, dump(each.id), each.version, _dump_fields(each.fields))
            for each in documents
        ]

        def run(connection: apsw.Connection) -> None:
            connection.executemany(PROJECT_ONE, rows)

        # Their events are on the disk; until they are settled, they are projected again.
        await self._database.write(run, sync=False)

    async def versions(self, ids: Collection[Any]) -> dict[Any, int]:
        found = await self._database.read(lambda connection: self._find(connection, ids))
        return {each.id: each.version for each in found}

    async def find(
        self,
        where: Mapping[str, Any],
        sort: Sequence[tuple[str, int]],
        skip: int,
        limit: int,
    ) -> list[StoredDocument]:
        query = DocumentQuery(self._version_field, where, sort)

        def run(connection: apsw.Connection) -> list[StoredDocument]:
            ids = query.ids
            documents = self._documents(connection, PAGE_DOCUMENTS)
            found = documents if ids is None else self._find(connection, ids)
            return query.sorted(filter(query.matches, found))[skip : skip + limit]

        return await self._database.search(run)

    def changes(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        return self._events.read(aggregate_id, after, limit=limit)

    @asynccontextmanager
    async def feed(self, cursor: str | None) -> AsyncIterator[AsyncIterator[FeedItem]]:
        newest = await self._database.read(_newest)
        at = newest if cursor is None else self._decode(cursor, newest)
        async with aclosing(self._items(at)) as items:
            yield items

    async def _items(self, at: int) -> AsyncGenerator[FeedItem, None]:
        with self._database.watching() as changed:
            while True:
                changed.clear()
                found, at = await self._database.read(
                    lambda connection, at=at: self._stored_behind(connection, at)  # type: ignore[misc]
                )
                for seq, event in found:
                    yield FeedItem(event, f"{self._database.incarnation}-{seq}")
                if not found:
                    await changed.wait()

    def _stored_behind(
        self, connection: apsw.Connection, at: int
    ) -> tuple[list[tuple[int, EventRecord]], int]:
        """Return the next events behind a place, and the place behind those that were looked at."""
        newest = _newest(connection)
        select = (
            f"SELECT seq, {COLUMNS} FROM events WHERE seq > ? AND +domain = ? ORDER BY seq LIMIT ?"
        )
        found = connection.execute(select, (at, self._table.domain, PAGE_EVENTS))
        events = [(seq, self._table.decode(tuple(row))) for seq, *row in found]
        return events, events[-1][0] if len(events) == PAGE_EVENTS else max(newest, at)

    def _decode(self, cursor: str, newest: int) -> int:
        incarnation, _, seq = cursor.partition("-")
        if incarnation != self._database.incarnation or not seq.isdecimal() or int(seq) > newest:
            raise InvalidCursor(
                f"{cursor!r} is no cursor of {self._name} in {self._database.path}: read the"
                " documents, and watch from now on"
            )
        return int(seq)

    def _head(self, connection: apsw.Connection, aggregate_id: str) -> int:
        select = "SELECT max(version) FROM events WHERE domain = ? AND aggregate_id = ?"
        return connection.execute(select, (self._table.domain, aggregate_id)).get or 0

    def _find(self, connection: apsw.Connection, ids: Collection[Any]) -> list[StoredDocument]:
        select = "SELECT id, version, fields FROM documents WHERE collection = ? AND id = ?"
        return [
            _document(row)
            for id in dict.fromkeys(map(dump, ids))
            for row in connection.execute(select, (self._name, id))
        ]

    def _documents(self, connection: apsw.Connection, page: int) -> Iterator[StoredDocument]:
        """Read all documents, page by page."""
        select = (
            "SELECT id, version, fields FROM documents WHERE collection = ? AND id > ?"
            " ORDER BY id LIMIT ?"
        )
        rows: list[Any] = [("",)]
        while rows := connection.execute(select, (self._name, rows[-1][0], page)).fetchall():
            yield from map(_document, rows)


@asynccontextmanager
async def open_document_store(
    url: str,
    folder: str,
    collection: str,
    events: str,
    *,
    version_field: str,
    partitions: int,
    timeout: float,
) -> AsyncIterator[SqliteDocuments]:
    """Yield the store of a collection in the file of a URL. Misconfigured: it can't be used."""
    async with open_database(parse_url(url), timeout) as database:
        yield SqliteDocuments(database, folder, collection, events, version_field, partitions)


def _newest(connection: apsw.Connection) -> int:
    return connection.execute("SELECT max(seq) FROM events").get or 0


def _document(row: Any) -> StoredDocument:
    id, version, fields = row
    return StoredDocument(load(id), version, None if fields is None else load(fields))


def _dump_fields(fields: dict[str, Any] | None) -> str | None:
    return None if fields is None else dump(fields)
