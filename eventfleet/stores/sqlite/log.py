"""The log's writers on SQLite: owners of partitions, and the producer."""

from collections.abc import Sequence

import apsw

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Fenced
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.log_rows import Appending, find_partition
from eventfleet.topics.event import Position
from eventfleet.topics.record import ProducerRecord

OPEN = """
INSERT INTO log_groups (topic, name, partition, generation) VALUES (?, ?, ?, 1)
ON CONFLICT DO UPDATE SET generation = generation + 1 RETURNING generation, next_offset
"""
MOVE = """
UPDATE log_groups SET next_offset = ?
WHERE topic = ? AND name = ? AND partition = ? AND generation = ?
"""


class SqliteTransactionalWriter:
    """PartitionWriter: each `open` counts up a generation, and only the newest one commits.

    Its commits are not synced: the power takes none without all that was written after it.
    """

    def __init__(self, database: Database, group: str, topic: str, partition: int) -> None:
        self._database = database
        self._group, self._topic, self._partition = group, topic, partition
        self._generation: int | None = None

    async def open(self) -> int | None:
        self._generation = None
        source = self._topic, self._group, self._partition

        def run(connection: apsw.Connection) -> tuple[int, int | None]:
            [(generation, next_offset)] = connection.execute(OPEN, source)
            return generation, next_offset

        generation, offset = await self._database.write(run, sync=False)
        self._generation = generation
        return offset

    async def watermarks(self) -> Watermarks:
        row = await self._database.read(
            lambda connection: find_partition(connection, self._topic, self._partition)
        )
        return row.watermarks

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        """RuntimeError unless `open` has succeeded since the last error."""
        generation, self._generation = self._generation, None
        if generation is None:
            raise RuntimeError(f"{self._topic}/{self._partition} for {self._group} is not open")
        written = self._database.written
        move = next_offset, self._topic, self._group, self._partition, generation

        def run(connection: apsw.Connection) -> None:
            connection.execute(MOVE, move)
            if not connection.changes():
                raise Fenced(
                    f"{self._topic}/{self._partition} for {self._group}:"
                    " another owner has taken over"
                )
            Appending(connection, written).append([*records, *last])

        await self._database.write(run, sync=False)
        self._generation = generation

    async def close(self) -> None:
        self._generation = None


class SqliteProducer:
    """LogWriter: what it acknowledges is on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        written = self._database.written
        return await self._database.write(
            lambda connection: Appending(connection, written).append(records)
        )

    async def close(self) -> None:
        """There is nothing to release."""
