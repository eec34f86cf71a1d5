"""Reads and follows the log on SQLite."""

from asyncio import Event
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import apsw

from eventfleet.stores.contracts import TopicState, Watermarks
from eventfleet.stores.errors import ServerUnavailable, TopicRefused
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.log_rows import (
    PAGE_RECORDS,
    find_partition,
    find_partitions,
    read_page,
    read_pages,
)
from eventfleet.topics.record import LogRecord


class SqliteReader:
    """LogReader, in pages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def partition_count(self, topic: str) -> int:
        return len(await self.watermarks(topic))

    async def topic_states(self, topics: Sequence[str]) -> dict[str, TopicState]:
        found = await self._database.rows("SELECT name, id, partitions FROM log_topics")
        states = {name: TopicState(id, partitions) for name, id, partitions in found}
        return {topic: states.get(topic, TopicState("", 0)) for topic in topics}

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        rows = await self._database.read(lambda connection: find_partitions(connection, topic))
        return {row.partition: row.watermarks for row in rows}

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        def read(connection: apsw.Connection) -> list[LogRecord]:
            return read_page(connection, topic, row, start, end)

        try:
            row = await self._database.read(
                lambda connection: find_partition(connection, topic, partition)
            )
        except TopicRefused:
            return
        end = min(end, row.end)
        while start < end and (page := await self._database.read(read)):
            for record in page:
                yield record
            start = page[-1].offset + 1

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        select = "SELECT partition, next_offset FROM log_groups"
        where = "WHERE topic = ? AND name = ? AND next_offset IS NOT NULL"
        return dict(await self._database.rows(f"{select} {where}", topic, group))

    async def close(self) -> None:
        """There is nothing to release."""


class SqliteFollower:
    """LogFollower that each commit to its topic wakes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def follow(self, topic: str, partitions: int) -> AsyncIterator[AsyncIterator[LogRecord]]:
        def read(connection: apsw.Connection) -> dict[int, int]:
            rows = (find_partition(connection, topic, number) for number in range(partitions))
            return {row.partition: row.end for row in rows}

        with self._database.watching(topic) as changed:
            offsets = await self._database.read(read)
            yield self._records(topic, offsets, changed)

    async def _records(
        self, topic: str, offsets: dict[int, int], changed: Event
    ) -> AsyncIterator[LogRecord]:
        def read(connection: apsw.Connection) -> list[LogRecord]:
            return _read_after(connection, topic, offsets)

        while True:
            changed.clear()
            while records := await self._database.read(read):
                for record in records:
                    offsets[record.partition] = record.offset + 1
                    yield record
            await changed.wait()


def _read_after(
    connection: apsw.Connection, topic: str, offsets: dict[int, int]
) -> list[LogRecord]:
    """Return a page of each partition that has records from its offset on."""
    rows, pages = read_pages(connection, topic, offsets, PAGE_RECORDS)
    for row in rows:
        offset = offsets.get(row.partition, row.end)
        if offset < row.oldest:
            where = f"following {topic}/{row.partition}"
            raise ServerUnavailable(f"{where}: records from {offset} on are no longer kept")
    return [record for page in pages.values() for record in page]
