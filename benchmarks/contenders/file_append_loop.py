"""Hand-written append on a fleet's file: versions, the rows of the events, the notes of offsets."""

from datetime import datetime
from typing import Any

import apsw
import msgspec
import orjson

from benchmarks.contenders.file_loop import FileLoop, InputRecord, OutputRecord
from benchmarks.contenders.task import ContenderTask, read_task, run

MAX_CACHED_AGGREGATES = 100_000

HEAD = "SELECT max(version) FROM events WHERE domain = ? AND aggregate_id = ?"
TAKEN = """
SELECT count(*) FROM events WHERE domain = ? AND partition = ? AND epoch = 0
AND log_offset >= ? AND log_offset <= ?
"""
INSERT = """
INSERT INTO events (domain, aggregate_id, version, id, type, time, schema_version, data, discarded,
  partition, epoch, log_offset)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?)
"""
NOTE = """
INSERT INTO registry (domain, fact, value) VALUES (?, 'notes', ?)
ON CONFLICT DO UPDATE SET value = excluded.value
"""


class EventEnvelope(msgspec.Struct, omit_defaults=True):
    """An event as JSON in a topic."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: dict[str, Any]
    schemaversion: int = 1
    version: int = 0
    position: str | None = None


decode = msgspec.json.Decoder(EventEnvelope).decode
encode = msgspec.json.Encoder().encode


class AppendHandler:
    """Handles one partition; `heads` holds the latest version of each aggregate.

    `notes` has the next offset of each partition, as the store's registry keeps it.
    """

    def __init__(
        self,
        task: ContenderTask,
        connection: apsw.Connection,
        partition: int,
        notes: dict[str, Any],
    ) -> None:
        self.domain, self.connection, self.partition = task.domain, connection, partition
        self.target = (f"{task.domain}.stored", partition)
        self.heads: dict[str, int] = {}
        self.notes, self.is_first_chunk = notes, True

    def __call__(self, records: list[InputRecord]) -> list[OutputRecord]:
        envelopes = [decode(record.value) for record in records]
        self.load_heads({envelope.subject for envelope in envelopes} - self.heads.keys())
        if self.is_first_chunk:
            self.check_positions(records)
            self.is_first_chunk = False
        rows, output = [], []
        for record, envelope in zip(records, envelopes, strict=True):
            envelope.version = self.heads[envelope.subject] = self.heads[envelope.subject] + 1
            envelope.position = f"0-{self.partition}-{record.offset}"
            rows.append(self.make_row(envelope, record.offset))
            value = encode(envelope).decode()
            output.append(OutputRecord(self.target, record.timestamp, record.key, value))
        self.connection.executemany(INSERT, rows)
        self.notes[str(self.partition)] = [0, records[-1].offset + 1]
        self.connection.execute(NOTE, (self.domain, encode(self.notes).decode()))
        for _ in range(len(self.heads) - MAX_CACHED_AGGREGATES):
            del self.heads[next(iter(self.heads))]
        return output

    def make_row(self, envelope: EventEnvelope, offset: int) -> tuple[Any, ...]:
        time = envelope.time.replace(tzinfo=None).isoformat(timespec="milliseconds")
        return (
            *(self.domain, envelope.subject, envelope.version, envelope.id, envelope.type),
            *(f"{time}Z", envelope.schemaversion, orjson.dumps(envelope.data).decode()),
            *(self.partition, offset),
        )

    def load_heads(self, subjects: set[str]) -> None:
        for subject in subjects:
            self.heads[subject] = self.connection.execute(HEAD, (self.domain, subject)).get or 0

    def check_positions(self, records: list[InputRecord]) -> None:
        """Verify after a take-over that no other events have these positions."""
        bounds = records[0].offset, records[-1].offset
        if self.connection.execute(TAKEN, (self.domain, self.partition, *bounds)).get:
            raise RuntimeError("the positions are taken")


async def main(task: ContenderTask) -> None:
    notes: dict[str, Any] = {}
    FileLoop(task, lambda connection, n: AppendHandler(task, connection, n, notes)).run()


if __name__ == "__main__":
    run(main(read_task()))
