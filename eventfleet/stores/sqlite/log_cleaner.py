"""Cleans the log on SQLite: what all groups have passed goes, of compacted topics all but the last
record of each key."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import apsw
import orjson

from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.log_rows import PartitionRow, find_partition

KEPT = timedelta(days=1)
BATCH_RECORDS = 1_000

PASSED = """
SELECT min(coalesce(passed.next_offset, 0))
FROM (SELECT DISTINCT name FROM log_groups WHERE topic = :topic) AS readers
LEFT JOIN log_groups AS passed
  ON passed.topic = :topic AND passed.name = readers.name AND passed.partition = :partition
"""
TOMBSTONES = """
DELETE FROM log_records WHERE seq IN (
  SELECT seq FROM log_records WHERE partition_id = ? AND to_compact AND value IS NULL
  AND offset < ? AND timestamp <= ? LIMIT ?)
"""


class _CleanedPartition(NamedTuple):
    topic: str
    partition: int
    is_compacted: bool
    retention_ms: int
    """-1: for ever."""


class _Batch(NamedTuple):
    removed: int
    is_last: bool


class SqliteLogCleaner:
    """Removes records, BATCH_RECORDS in a transaction.

    A record goes when it is `kept` old, and as old as its topic's `retention.ms`, and all groups
    that have opened partitions of the topic have passed it. Of a topic without groups it goes by
    `retention.ms` alone: never where that is -1. A compacted topic keeps the last record of each
    key; where that is a tombstone, until it is `kept` old.
    """

    def __init__(self, database: Database, kept: timedelta = KEPT) -> None:
        self._database, self._kept = database, kept

    async def clean(self, now: datetime) -> int:
        """Return how many records were removed."""
        removed = 0
        for cleaned in await self._database.read(_partitions):
            is_last = False
            while not is_last:
                batch, is_last = await self._clean_batch(cleaned, now)
                removed += batch
        return removed

    async def _clean_batch(self, cleaned: _CleanedPartition, now: datetime) -> _Batch:
        def run(connection: apsw.Connection) -> _Batch:
            row = find_partition(connection, cleaned.topic, cleaned.partition)
            if cleaned.is_compacted:
                return _compact(connection, row, _milliseconds(now - self._kept))
            retention = timedelta(milliseconds=max(cleaned.retention_ms, 0))
            before = _milliseconds(now - max(self._kept, retention))
            return _expire(connection, row, _passed(connection, cleaned, row), before)

        return await self._database.write(run, sync=False)


def _partitions(connection: apsw.Connection) -> list[_CleanedPartition]:
    found: Any = connection.execute(
        "SELECT topic, partition, config FROM log_partitions JOIN log_topics ON name = topic"
        " WHERE oldest < end_offset"
    )
    cleaned = []
    for topic, partition, text in found:
        config = orjson.loads(text)
        is_compacted = "compact" in config.get("cleanup.policy", "")
        retention_ms = int(config.get("retention.ms", -1))
        cleaned.append(_CleanedPartition(topic, partition, is_compacted, retention_ms))
    return cleaned


def _passed(connection: apsw.Connection, cleaned: _CleanedPartition, row: PartitionRow) -> int:
    """Return the offset below which no group needs the records."""
    passed: int | None = connection.execute(
        PASSED, {"topic": cleaned.topic, "partition": cleaned.partition}
    ).get
    if passed is None:
        return row.oldest if cleaned.retention_ms < 0 else row.end
    return min(passed, row.end)


def _expire(connection: apsw.Connection, row: PartitionRow, passed: int, before: int) -> _Batch:
    """Remove the first records, up to the first that is too young."""
    end = min(passed, row.oldest + BATCH_RECORDS)
    kept: int | None = connection.execute(
        "SELECT offset FROM log_records WHERE partition_id = ? AND offset >= ? AND offset < ?"
        " AND timestamp > ? ORDER BY offset LIMIT 1",
        (row.id, row.oldest, end, before),
    ).get
    oldest = end if kept is None else kept
    if oldest <= row.oldest:
        return _Batch(0, True)
    connection.execute(
        "DELETE FROM log_records WHERE partition_id = ? AND offset < ?", (row.id, oldest)
    )
    connection.execute("UPDATE log_partitions SET oldest = ? WHERE id = ?", (oldest, row.id))
    return _Batch(oldest - row.oldest, kept is not None or oldest == passed)


def _compact(connection: apsw.Connection, row: PartitionRow, before: int) -> _Batch:
    """Remove those that the next records replace, and old tombstones."""
    start: int = connection.execute(
        "SELECT compacted_to FROM log_partitions WHERE id = ?", (row.id,)
    ).get
    end = min(row.end, start + BATCH_RECORDS)
    removed = connection.total_changes()
    connection.executemany(
        "DELETE FROM log_records WHERE to_compact AND partition_id = ? AND key = ? AND offset < ?",
        [(row.id, key, last) for key, last in _last_offsets(connection, row, start, end)],
    )
    connection.execute(TOMBSTONES, (row.id, end, before, BATCH_RECORDS))
    removed = connection.total_changes() - removed
    connection.execute("UPDATE log_partitions SET compacted_to = ? WHERE id = ?", (end, row.id))
    return _Batch(removed, end == row.end)


def _last_offsets(
    connection: apsw.Connection, row: PartitionRow, start: int, end: int
) -> list[tuple[Any, int]]:
    """Return the keys of records, each with its last offset among them."""
    found: Any = connection.execute(
        "SELECT key, max(offset) FROM log_records"
        " WHERE partition_id = ? AND offset >= ? AND offset < ? AND key IS NOT NULL GROUP BY key",
        (row.id, start, end),
    )
    return list(found)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
