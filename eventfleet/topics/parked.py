"""Parked aggregates and their records in `<domain>.parked`, where relay and project keep theirs."""

from datetime import datetime

import msgspec

from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord


class ParkedAggregate(msgspec.Struct, frozen=True):
    """An aggregate that a role parks: the event that it can't handle, and those behind it.

    Its events from version `first` to `last` wait. `reason` is the error in one line, `details` are
    the team's own lines of its traceback. `attempts` counts how often the first event has failed.
    """

    role: str
    partition: int
    aggregate_id: str
    first: int
    last: int
    event_id: str
    event_type: str
    reason: str
    details: str
    attempts: int
    parked_at: datetime


class Discard(msgspec.Struct, frozen=True):
    """The decision that a role passes over an event: who made it, when and why."""

    why: str
    by: str
    time: datetime


class DiscardedEvent(msgspec.Struct, frozen=True):
    """The tombstone of an event that a role has passed over."""

    role: str
    aggregate_id: str
    version: int
    event_id: str
    discard: Discard


_encode = msgspec.json.Encoder().encode
_decode_parked = msgspec.json.Decoder(ParkedAggregate).decode
_decode_discarded = msgspec.json.Decoder(DiscardedEvent).decode

_PARKED, _DISCARDED = "parked/", "discarded/"


def parked_record(
    domain: str, role: str, partition: int, aggregate_id: str, parked: ParkedAggregate | None
) -> ProducerRecord:
    """Make the record that says what a role parks of an aggregate; None: nothing any more."""
    key = f"{_PARKED}{role}/{aggregate_id}".encode()
    value = _encode(parked) if parked else None
    return ProducerRecord(Topics.of(domain).parked, key, value, partition)


def discarded_record(domain: str, partition: int, event: DiscardedEvent) -> ProducerRecord:
    """Make the record of a discarded event."""
    key = f"{_DISCARDED}{event.role}/{event.version}/{event.aggregate_id}".encode()
    return ProducerRecord(Topics.of(domain).parked, key, _encode(event), partition)


def read_parked(record: LogRecord) -> tuple[str, ParkedAggregate | DiscardedEvent | None]:
    """Return a record's key, and what it says. DecodeError: it says nothing that can be read."""
    key = (record.key or b"").decode()
    if record.value is None:
        return key, None
    return key, (_decode_discarded if key.startswith(_DISCARDED) else _decode_parked)(record.value)
