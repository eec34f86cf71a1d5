"""Rows of the log: how records are kept, appended and read.

Keys and values are kept as text where they are UTF-8, so that a person can read them.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any, NamedTuple

import apsw
import orjson

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import RecordsTooLarge, TopicRefused
from eventfleet.stores.sqlite.database import WrittenTopics
from eventfleet.topics.event import Position
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import Headers, LogRecord, ProducerRecord

PAGE_RECORDS = 500
PAGE_BYTES = 2_000_000
KEPT_HEADERS = 100
"""Most records of a topic have the same ones."""
REPLY_TO = b'"replyto"'

INSERT = """
INSERT INTO log_records (partition_id, offset, timestamp, key, value, headers, to_compact)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
SELECT = """
SELECT offset, timestamp, key, value, headers FROM log_records
WHERE partition_id = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?
"""


class Topic(NamedTuple):
    """A topic, as its records must fit it: their partitions, bytes, and whether keys are
    compacted."""

    partitions: int
    max_bytes: int
    is_compacted: bool


class PartitionRow(NamedTuple):
    """A partition, and the offsets that it keeps."""

    id: int
    partition: int
    oldest: int
    end: int

    @property
    def watermarks(self) -> Watermarks:
        return Watermarks(self.oldest, self.end)


class Appending:
    """Appends records within one transaction; `written` gets the names of their topics."""

    def __init__(self, connection: apsw.Connection, written: WrittenTopics) -> None:
        self._connection, self._written = connection, written
        self._topics: dict[str, Topic] = {}
        self._places: dict[tuple[str, int], PartitionRow] = {}
        self._ends: dict[int, int] = {}
        self._now = time.time_ns() // 1_000_000

    def append(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write records at the ends of their partitions. TopicRefused: nothing was written."""
        self._check_sizes(records)
        rows, positions = [], []
        for record in records:
            place = self._place(record)
            offset = self._ends[place.id]
            self._ends[place.id] = offset + 1
            rows.append(self._row(place.id, offset, record))
            positions.append(Position(0, place.partition, offset))
        self._connection.executemany(INSERT, rows)
        self._connection.executemany(
            "UPDATE log_partitions SET end_offset = ? WHERE id = ?",
            [(end, id) for id, end in self._ends.items()],
        )
        self._written.topics.update(self._topics)
        self._written.awaited.update(each.topic for each in records if is_awaited(each))
        return positions

    def _check_sizes(self, records: Sequence[ProducerRecord]) -> None:
        refused = [
            record for record in records if _size(record) > self._topic(record.topic).max_bytes
        ]
        if refused:
            topic, size = refused[0].topic, _size(refused[0])
            raise RecordsTooLarge(f"topic {topic}: a record has {size} bytes", refused)

    def _row(self, partition_id: int, offset: int, record: ProducerRecord) -> tuple[Any, ...]:
        return (
            partition_id,
            offset,
            self._now if record.timestamp is None else record.timestamp,
            _to_text(record.key),
            _to_text(record.value),
            _dump_headers(record.headers) if record.headers else None,
            self._topic(record.topic).is_compacted,
        )

    def _place(self, record: ProducerRecord) -> PartitionRow:
        number = record.partition
        if number is None:
            count = self._topic(record.topic).partitions
            number = partition_of((record.key or b"").decode(), count)
        place = self._places.get((record.topic, number))
        if place is None:
            place = find_partition(self._connection, record.topic, number)
            self._places[record.topic, number] = place
            self._ends[place.id] = place.end
        return place

    def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = find_topic(self._connection, name)
        return topic


def find_topic(connection: apsw.Connection, name: str) -> Topic:
    """Return a topic. TopicRefused: it does not exist."""
    found = connection.execute(
        "SELECT partitions, config FROM log_topics WHERE name = ?", (name,)
    ).fetchone()
    if found is None:
        raise TopicRefused(f"topic {name} does not exist")
    config = orjson.loads(found[1])
    max_bytes = int(config.get("max.message.bytes", 2**31 - 1))
    return Topic(found[0], max_bytes, "compact" in config.get("cleanup.policy", ""))


def find_partition(connection: apsw.Connection, topic: str, partition: int) -> PartitionRow:
    """Return a partition. TopicRefused: it does not exist."""
    found = connection.execute(
        "SELECT id, partition, oldest, end_offset FROM log_partitions"
        " WHERE topic = ? AND partition = ?",
        (topic, partition),
    ).fetchone()
    if found is None:
        count = find_topic(connection, topic).partitions
        raise TopicRefused(f"topic {topic} has {count} partitions, no partition {partition}")
    return PartitionRow(*found)


def find_partitions(connection: apsw.Connection, topic: str) -> list[PartitionRow]:
    """Return a topic's partitions in order; none for an unknown topic."""
    found = connection.execute(
        "SELECT id, partition, oldest, end_offset FROM log_partitions"
        " WHERE topic = ? ORDER BY partition",
        (topic,),
    )
    return [PartitionRow(*row) for row in found]


def read_pages(
    connection: apsw.Connection, topic: str, starts: Mapping[int, int], limit: int
) -> tuple[list[PartitionRow], dict[int, list[LogRecord]]]:
    """Return all partitions of a topic; of some, the first records from an offset on."""
    with connection:  # so that no record is removed between two statements
        rows = find_partitions(connection, topic)
        pages = {
            row.partition: read_page(connection, topic, row, start, row.end, limit)
            for row in rows
            if (start := starts.get(row.partition, row.end)) < row.end
        }
    return rows, pages


def read_page(
    connection: apsw.Connection,
    topic: str,
    row: PartitionRow,
    start: int,
    end: int,
    limit: int = PAGE_RECORDS,
) -> list[LogRecord]:
    """Return the first records from `start` on, below `end`; none: there are none."""
    page: list[LogRecord] = []
    size = 0
    with closing(connection.execute(SELECT, (row.id, start, end, limit))) as found:
        for offset, timestamp, key, value, headers in found:
            record = LogRecord(
                topic,
                row.partition,
                offset,
                _to_bytes(key),
                _to_bytes(value),
                _load_headers(headers) if headers else (),
                timestamp,
            )
            page.append(record)
            size += len(record.value or b"")
            if size >= PAGE_BYTES:
                break
    return page


def is_awaited(record: ProducerRecord) -> bool:
    """Return whether a record seems to name a channel where somebody waits for it."""
    return record.value is not None and REPLY_TO in record.value


def _size(record: ProducerRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _to_text(content: bytes | None) -> str | bytes | None:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _to_bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


@lru_cache(KEPT_HEADERS)
def _dump_headers(headers: Headers) -> str:
    """Write headers as JSON; each byte of a value is the character of its number."""
    return orjson.dumps([(name, value.decode("latin-1")) for name, value in headers]).decode()


@lru_cache(KEPT_HEADERS)
def _load_headers(text: str) -> Headers:
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(text))
