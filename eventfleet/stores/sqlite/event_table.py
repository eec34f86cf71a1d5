"""Rows of the table `events`: how an event is kept, and read back."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import apsw
import orjson

from eventfleet.topics.event import EventRecord, Position

Row = tuple[Any, ...]

ATTRIBUTES = ("prev", "correlation_id", "causation_id", "actor", "traceparent", "fingerprint")

INSERT = """
INSERT INTO events (domain, aggregate_id, version, id, type, time, schema_version, data, attributes,
  discarded, partition, epoch, log_offset, unplaced, parked_epoch, parked_offset, reply_to, outbox)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
COLUMNS = (
    "aggregate_id, version, id, type, time, schema_version, data, attributes, discarded,"
    " partition, epoch, log_offset, reply_to"
)


class DataCodec(NamedTuple):
    """How payloads are written as text, and read."""

    dump: Callable[[Any], str]
    load: Callable[[str], Any]


JSON = DataCodec(lambda value: orjson.dumps(value).decode(), orjson.loads)


class EventTable:
    """Encodes and decodes the events of one domain.

    `source` is the domain that the events name, where it is not that of their rows.
    """

    def __init__(self, domain: str, codec: DataCodec = JSON, source: str = "") -> None:
        self.domain, self._codec, self._source = domain, codec, source or domain

    def insert(
        self,
        connection: apsw.Connection,
        event: EventRecord,
        partition: int,
        *,
        placed: Position | None = None,
        parked: Position | None = None,
        outbox: str | None = None,
    ) -> bool:
        """Insert an event; False: its id or its version is taken."""
        attributes = {
            name: value for name in ATTRIBUTES if (value := getattr(event, name)) is not None
        }
        connection.execute(
            INSERT,
            (
                *(self.domain, event.aggregate_id, event.version, event.id, event.type),
                *(dump_time(event.time), event.schema_version, self._codec.dump(event.data)),
                orjson.dumps(attributes).decode() if attributes else None,
                *(event.discarded, partition),
                *(placed and placed.epoch, placed and placed.offset),
                None if placed else partition,
                *(parked and parked.epoch, parked and parked.offset),
                None if placed else event.reply_to,
                outbox,
            ),
        )
        return bool(connection.changes())

    def select(self, connection: apsw.Connection, where: str, *values: Any) -> list[EventRecord]:
        """Return the events of the domain for which a condition holds, in the order that it ends
        with."""
        found = connection.execute(
            f"SELECT {COLUMNS} FROM events WHERE domain = ? AND {where}", (self.domain, *values)
        )
        return [self.decode(row) for row in found]

    def decode(self, row: Row) -> EventRecord:
        """Decode COLUMNS."""
        aggregate_id, version, id, type, time, schema_version, data, attributes, *rest = row
        discarded, partition, epoch, offset, reply_to = rest
        return EventRecord(
            id=id,
            type=type,
            domain=self._source,
            aggregate_id=aggregate_id,
            time=load_time(time),
            data=self._codec.load(data),
            schema_version=schema_version,
            version=version,
            position=None if offset is None else f"{epoch}-{partition}-{offset}",
            reply_to=reply_to,
            discarded=bool(discarded),
            **(orjson.loads(attributes) if attributes else {}),
        )


def dump_time(time: datetime) -> str:
    """Return a time as text whose order is that of the times."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def load_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
