"""The frame of hand-written roles on a fleet's file: a chunk's rows, records and offset in one
transaction, on one connection, by turns of the partitions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, write_result
from benchmarks.file_setup import describe_pragmas, make_settings
from eventfleet.runtime.file_backend import data_file

BUSY_MILLISECONDS = 1_000
CACHE_KIBIBYTES = 16_384
HEADERS = '[["content-type","application/cloudevents+json"]]'

OPEN_GROUP = """
INSERT INTO log_groups (topic, name, partition, generation) VALUES (?, ?, ?, 1)
ON CONFLICT DO UPDATE SET generation = generation + 1 RETURNING next_offset
"""
MOVE_GROUP = "UPDATE log_groups SET next_offset = ? WHERE topic = ? AND name = ? AND partition = ?"
FIND_PARTITION = "SELECT id, end_offset FROM log_partitions WHERE topic = ? AND partition = ?"
SELECT_RECORDS = """
SELECT offset, timestamp, key, value FROM log_records
WHERE partition_id = ? AND offset >= ? ORDER BY offset LIMIT ?
"""
INSERT_RECORD = """
INSERT INTO log_records (partition_id, offset, timestamp, key, value, headers, to_compact)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
MOVE_END = "UPDATE log_partitions SET end_offset = ? WHERE id = ?"


class InputRecord(NamedTuple):
    offset: int
    timestamp: int
    key: str
    value: str


class OutputRecord(NamedTuple):
    """A record to write to one of the loop's targets; `place` is topic and partition."""

    place: tuple[str, int]
    timestamp: int
    key: str
    value: str
    headers: str | None = HEADERS
    to_compact: bool = False


class LogEnd:
    """The end of a partition that the loop writes to."""

    def __init__(self, connection: apsw.Connection, place: tuple[str, int]) -> None:
        self.id, self.offset = connection.execute(FIND_PARTITION, place).fetchall()[0]


ChunkHandler = Callable[[list[InputRecord]], list[OutputRecord]]
"""Writes a chunk's rows within its transaction, and returns the records to write."""


class FileLoop:
    """Handles all partitions of the task's topic with `handler`, which makes one for each."""

    def __init__(
        self, task: ContenderTask, handler: Callable[[apsw.Connection, int], ChunkHandler]
    ) -> None:
        self.task, self.clock, self.value_bytes = task, Stopwatch(), 0
        self._connection = self._connect()
        self._handlers = [handler(self._connection, n) for n in range(task.partitions)]
        self._ends: dict[tuple[str, int], LogEnd] = {}

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(data_file(make_settings(self.task))))
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}; PRAGMA synchronous = NORMAL")
        return connection

    def run(self) -> None:
        """Run until every record is committed, and write the result."""
        topic, group = self.task.topic, self.task.group
        sources = [self._end(topic, number).id for number in range(self.task.partitions)]
        offsets = [
            self._connection.execute(OPEN_GROUP, (topic, group, number)).get or 0
            for number in range(self.task.partitions)
        ]
        remaining = self.task.records
        while remaining:
            for number, source in enumerate(sources):
                selected = (source, offsets[number], self.task.chunk)
                found = self._connection.execute(SELECT_RECORDS, selected)
                if records := [InputRecord(*row) for row in found]:
                    self.clock.start()
                    self.value_bytes += sum(len(record.value) for record in records)
                    offsets[number] = records[-1].offset + 1
                    self._handle(number, records, offsets[number])
                    remaining -= len(records)
        self.clock.stop()
        described = {"chunk": str(self.task.chunk), **describe_pragmas(self._connection)}
        clock, read = self.clock, self.value_bytes
        write_result(Result(self.task.records, clock.seconds, clock.cpu, read, described))

    def _handle(self, number: int, records: list[InputRecord], next_offset: int) -> None:
        execute, execute_many = self._connection.execute, self._connection.executemany
        execute("BEGIN IMMEDIATE")
        rows: list[tuple[Any, ...]] = []
        for record in self._handlers[number](records):
            end = self._end(*record.place)
            rows.append((end.id, end.offset, *record[1:]))
            end.offset += 1
        execute_many(INSERT_RECORD, rows)
        execute_many(MOVE_END, [(end.offset, end.id) for end in self._ends.values()])
        execute(MOVE_GROUP, (next_offset, self.task.topic, self.task.group, number))
        execute("COMMIT")

    def _end(self, *place: Any) -> LogEnd:
        if place not in self._ends:
            self._ends[place] = LogEnd(self._connection, place)
        return self._ends[place]
