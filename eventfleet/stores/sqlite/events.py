"""The event store on SQLite."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import apsw

from eventfleet.stores.contracts import (
    AssignPosition,
    Head,
    Page,
    ParkEvent,
    PlaceParked,
    Tail,
    TailQuery,
    VersionRange,
    Write,
)
from eventfleet.stores.cursors import FeedPoint, decode_cursor, decode_feed_cursor, encode_cursor
from eventfleet.stores.errors import Duplicate, TopicRefused
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.event_table import EventTable, dump_time
from eventfleet.stores.sqlite.log_rows import Appending
from eventfleet.stores.sqlite.outbox import PUBLISH, SqliteOutbox
from eventfleet.stores.sqlite.registry import SqliteRegistry
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.partitioner import Destination

PAGE_EVENTS = 200
READABLE = "parked_offset IS NULL"
BY_VERSION = "ORDER BY aggregate_id, version"
BY_POSITION = "ORDER BY epoch, log_offset, version"
PLACED = """
epoch = ? AND partition = ? AND log_offset >= ? AND log_offset <= ? ORDER BY log_offset, version
"""
PLACE = "partition = ?, epoch = ?, log_offset = ?, unplaced = NULL, reply_to = NULL"
REFUSED_BEFORE = "parked_offset IS NOT NULL AND (parked_epoch, parked_offset) < (?, ?)"


class SqliteEvents:
    """EventStore of one domain; what is put is produced to the `topic`, if one is given."""

    def __init__(self, database: Database, table: EventTable, topic: str | None = None) -> None:
        self._database, self._table, self._domain = database, table, table.domain
        self._topic = topic
        self.outbox = SqliteOutbox(database, table)
        self.registry = SqliteRegistry(database, table.domain)

    async def prepare(self) -> None:
        """Prepare nothing: the tables are there."""

    # Writing

    async def write(self, writes: Sequence[Write]) -> None:
        """Write as EventStore says, but unsynced: what a loss of power takes, append does again."""

        def run(connection: apsw.Connection) -> Duplicate | None:
            for index, write in enumerate(writes):
                if not self._write(connection, write):
                    return self._duplicate(connection, index, _event_of(write))
            return None

        if writes and (duplicate := await self._database.write(run, sync=False)):
            raise duplicate

    async def put(
        self, events: Sequence[EventRecord], partition: int, *, to_publish: bool = False
    ) -> None:
        outbox = PUBLISH if to_publish else None

        def run(connection: apsw.Connection) -> None:
            for index, event in enumerate(events):
                if not self._table.insert(connection, event, partition, outbox=outbox):
                    raise self._duplicate(connection, index, event)
            self._publish([(events[-1], partition)])

        if events:
            await self._database.write(run)

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        def run(connection: apsw.Connection) -> list[Duplicate | None]:
            found = [
                None
                if self._table.insert(connection, event, partition)
                else self._duplicate(connection, 0, event)
                for event, partition in events
            ]
            stored = [each for each, taken in zip(events, found, strict=True) if taken is None]
            self._publish(stored)
            return found

        return await self._database.write(run) if events else []

    def _publish(self, events: Sequence[tuple[EventRecord, int]]) -> None:
        """Produce events behind the answer, or in their transaction where a caller waits for one.
        What their topic refuses, or the process did not come to, is left to the sweep."""
        if self._topic is None or not events:
            return
        self._database.defer(partial(self._produce, self._topic, events))
        if any(event.reply_to for event, _ in events):
            self._database.run_deferred()

    def _produce(
        self, topic: str, events: Sequence[tuple[EventRecord, int]], connection: apsw.Connection
    ) -> None:
        records = [
            Destination(topic, partition, "").record(event.aggregate_id, encode(event))
            for event, partition in events
        ]
        with suppress(TopicRefused):
            Appending(connection, self._database.written).append(records)

    async def mark_discarded(self, key: EventKey, *, parked: bool = False) -> None:
        only = " AND parked_offset IS NOT NULL" if parked else ""
        await self._database.write(
            lambda connection: self._update(connection, "discarded = 1", f"TRUE{only}", key)
        )

    def _write(self, connection: apsw.Connection, write: Write) -> bool:
        """False: it clashes."""
        if isinstance(write, EventRecord):
            at = Position.parse(write.position or "")
            return self._table.insert(connection, write, at.partition, placed=at)
        event, at = write.event, write.position
        if isinstance(write, ParkEvent):
            return self._table.insert(connection, event, at.partition, parked=at)
        where = (at.partition, at.epoch, at.offset)
        if isinstance(write, AssignPosition):
            self._update(connection, PLACE, "unplaced IS NOT NULL", event.key, *where)
        elif isinstance(write, PlaceParked):
            placed = f"{PLACE}, parked_epoch = NULL, parked_offset = NULL"
            self._update(connection, placed, REFUSED_BEFORE, event.key, *where, after=where[1:])
        else:
            refused = "parked_epoch = ?, parked_offset = ?"
            self._update(
                connection, refused, REFUSED_BEFORE, event.key, *where[1:], after=where[1:]
            )
        return True

    def _update(
        self,
        connection: apsw.Connection,
        change: str,
        condition: str,
        key: EventKey,
        *values: Any,
        after: tuple[int, ...] = (),
    ) -> None:
        connection.execute(
            f"UPDATE events SET {change}"
            f" WHERE domain = ? AND aggregate_id = ? AND id = ? AND {condition}",
            (*values, self._domain, *key, *after),
        )

    def _duplicate(self, connection: apsw.Connection, index: int, event: EventRecord) -> Duplicate:
        is_id = self._table.select(connection, "aggregate_id = ? AND id = ?", *event.key)
        key = "event id" if is_id else "version"
        return Duplicate(index, f"{event.domain}/{event.aggregate_id}", event.version, key)

    # Reading

    async def read(
        self,
        aggregate_id: str,
        after: int = 0,
        up_to: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        last, left = 2**63 - 1 if up_to is None else up_to, limit
        named = "" if types is None else f" AND type IN ({_marks(types)})"
        while left is None or left > 0:
            size = PAGE_EVENTS if left is None else min(left, PAGE_EVENTS)
            page = await self._select(
                f"aggregate_id = ? AND version > ? AND version <= ? AND {READABLE}{named}"
                " ORDER BY version LIMIT ?",
                *(aggregate_id, after, last, *(types or ()), size),
            )
            for event in page:
                yield event
            if len(page) < size:
                return
            after, left = page[-1].version, left and left - size

    async def read_all(
        self, aggregate_ids: Collection[str], limit: int
    ) -> list[EventRecord] | None:
        found = await self._select(
            f"aggregate_id IN ({_marks(aggregate_ids)}) AND {READABLE} {BY_VERSION} LIMIT ?",
            *(*aggregate_ids, limit + 1),
        )
        return found if len(found) <= limit else None

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        found = await self._database.read(lambda connection: self._find(connection, keys))
        return {event.key: event for event in found}

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        def run(connection: apsw.Connection) -> dict[str, Head]:
            heads = ((each, self._head(connection, each)) for each in aggregate_ids)
            return {aggregate_id: head for aggregate_id, head in heads if head}

        return await self._database.read(run)

    async def tails(self, queries: Sequence[TailQuery], limit: int) -> list[Tail] | None:
        def run(connection: apsw.Connection) -> list[Tail] | None:
            tails, left = [], limit
            for query in queries:
                tails.append(self._tail(connection, query, left + 1))
                if (left := left - len(tails[-1].events)) < 0:
                    return None
            return tails

        return await self._database.read(run)

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        found = await self._values(
            f"SELECT version FROM events WHERE domain = ? AND aggregate_id = ? AND {READABLE}"
            " AND time <= ? ORDER BY version DESC LIMIT 1",
            *(aggregate_id, dump_time(moment)),
        )
        return found[0] if found else 0

    async def feed(self, cursor: str, limit: int) -> Page:
        def run(connection: apsw.Connection) -> Page:
            listing, partitions = f"{self._domain}.feed", self._partitions(connection)
            newest = self._newest_epoch(connection)
            given = decode_feed_cursor(listing, cursor, newest, partitions)
            points = {point.partition: point for point in given}
            found = [
                event
                for partition in partitions
                for event in self._placed(
                    connection, points.get(partition, FeedPoint.start(partition)), limit
                )
            ]
            items = sorted(found, key=_place)[:limit]
            points |= {(point := FeedPoint.of(event)).partition: point for event in items}
            return Page(items, encode_cursor(listing, list(points.values())))

        return await self._database.read(run)

    async def placed(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        return await self._database.read(lambda connection: self._placed(connection, point, limit))

    async def last_placed(self, partition: int) -> FeedPoint:
        found = await self._select(
            "partition = ? AND log_offset IS NOT NULL"
            " ORDER BY epoch DESC, log_offset DESC, version DESC LIMIT 1",
            partition,
        )
        return FeedPoint.of(found[0]) if found else FeedPoint.start(partition)

    async def parked(self) -> set[str]:
        return {
            *await self._values(
                "SELECT DISTINCT aggregate_id FROM events"
                " WHERE domain = ? AND parked_offset IS NOT NULL"
            )
        }

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        listing = f"{self._domain}.aggregates"
        last = decode_cursor(listing, cursor, str) if cursor else ""

        def run(connection: apsw.Connection) -> list[str]:
            # Each step is a look-up in the index, however many events an aggregate has.
            found: list[str] = []
            at = last
            while len(found) < limit and (row := self._next_aggregate(connection, at)):
                at, of_partition = row
                if partition in (None, of_partition):
                    found.append(at)
            return found

        ids = await self._database.read(run)
        return Page(list(ids), encode_cursor(listing, ids[-1]) if ids else cursor)

    async def newest_epoch(self) -> int:
        return await self._database.read(self._newest_epoch)

    async def count(self) -> int:
        (count,) = await self._values("SELECT count(*) FROM events WHERE domain = ?")
        return int(count)

    async def unplaced(self, ranges: Collection[VersionRange]) -> list[EventRecord]:
        where = "unplaced IS NOT NULL AND aggregate_id = ? AND version > ? AND version <= ?"
        return await self._database.read(
            lambda connection: [
                event
                for each in sorted(ranges)
                for event in self._table.select(connection, f"{where} ORDER BY version", *each)
            ]
        )

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        named = {str(each) for each in positions}
        offsets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for epoch, partition, offset in sorted(positions):
            offsets[epoch, partition].append(offset)

        def run(connection: apsw.Connection) -> list[EventRecord]:
            return [
                event
                for place, near in offsets.items()  # as those of a chunk are
                for event in self._table.select(connection, PLACED, *place, near[0], near[-1])
                if event.position in named
            ]

        return await self._database.read(run)

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        return await self._select(f"unplaced = ? {BY_VERSION} LIMIT ?", partition, limit)

    async def _select(self, where: str, *values: Any) -> list[EventRecord]:
        return await self._database.read(
            lambda connection: self._table.select(connection, where, *values)
        )

    async def _values(self, statement: str, *values: Any) -> list[Any]:
        """Return the first column of what a statement selects in the domain."""
        found = await self._database.rows(statement, self._domain, *values)
        return [value for (value, *_) in found]

    def _find(self, connection: apsw.Connection, keys: Collection[EventKey]) -> list[EventRecord]:
        return [
            event
            for key in keys
            for event in self._table.select(connection, "aggregate_id = ? AND id = ?", *key)
        ]

    def _head(self, connection: apsw.Connection, aggregate_id: str) -> Head | None:
        select = "FROM events WHERE domain = ? AND aggregate_id = ?"
        key = self._domain, aggregate_id
        newest = connection.execute(
            f"SELECT version, id, type, parked_offset {select} ORDER BY version DESC LIMIT 1", key
        ).fetchone()
        if newest is None:
            return None
        placed = connection.execute(
            f"SELECT version {select} AND log_offset IS NOT NULL ORDER BY version DESC LIMIT 1", key
        ).fetchone()
        version, id, type, parked = newest
        return Head(version, id, placed[0] if placed else 0, type, parked is not None)

    def _tail(self, connection: apsw.Connection, query: TailQuery, limit: int) -> Tail:
        aggregate_id, after, event_id, seen = query
        events = self._table.select(
            connection,
            f"aggregate_id = ? AND version > ? AND {READABLE} ORDER BY version LIMIT ?",
            *(aggregate_id, after, limit),
        )
        keys = [EventKey(aggregate_id, each) for each in (event_id, *seen)]
        found = {event.id: event for event in self._find(connection, keys)}
        return Tail(events, found.get(event_id), tuple(found[id] for id in seen if id in found))

    def _placed(
        self, connection: apsw.Connection, point: FeedPoint, limit: int
    ) -> list[EventRecord]:
        partition, *place = point
        return self._table.select(
            connection,
            "log_offset IS NOT NULL AND partition = ?"
            f" AND (epoch, log_offset, version) > (?, ?, ?) {BY_POSITION} LIMIT ?",
            *(partition, *place, limit),
        )

    def _next_aggregate(self, connection: apsw.Connection, last: str) -> tuple[str, int] | None:
        row: tuple[str, int] | None = connection.execute(
            "SELECT aggregate_id, partition FROM events WHERE domain = ? AND aggregate_id > ?"
            " ORDER BY aggregate_id, version LIMIT 1",
            (self._domain, last),
        ).fetchone()
        return row

    def _partitions(self, connection: apsw.Connection) -> list[int]:
        """Return the partitions of the placed events, each by a look-up in the index."""
        found: list[int] = []
        select = (
            "SELECT partition FROM events WHERE domain = ? AND log_offset IS NOT NULL"
            " AND partition > ? ORDER BY partition LIMIT 1"
        )
        while row := connection.execute(
            select, (self._domain, found[-1] if found else -1)
        ).fetchone():
            found.append(row[0])
        return found

    def _newest_epoch(self, connection: apsw.Connection) -> int:
        newest = (
            connection.execute(
                "SELECT max(epoch) FROM events"
                " WHERE domain = ? AND partition = ? AND log_offset IS NOT NULL",
                (self._domain, partition),
            ).get
            for partition in self._partitions(connection)
        )
        return max(newest, default=0)


def _event_of(write: Write) -> EventRecord:
    return write if isinstance(write, EventRecord) else write.event


def _place(event: EventRecord) -> tuple[Position, int]:
    return Position.parse(event.position or ""), event.version


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))
