"""The records of `<domain>.parked`: what roles park, what operators decided, what the store notes.

Relay and project keep what they park here. Append and snapshot keep it in the stores, and write it
here too, as a lost store is filled from here: parked aggregates, the events that append parks, and
the discards of all roles.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from eventfleet.topics.codec import decode_stored, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord, ProducerRecord


class ParkedAggregate(msgspec.Struct, frozen=True, omit_defaults=True):
    """An aggregate that a role parks: the event that it can't handle, and those behind it.

    Its events from version `first` to `last` wait. `reason` is the error in one line, `details` are
    the team's own lines of its traceback. `attempts` counts how often the first event has failed.
    `builds`, in the role project: by the build of a view, the version that it is parked at there;
    all other builds have the events.
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
    builds: dict[str, int] = {}


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


class ParkedBehind(msgspec.Struct, frozen=True):
    """The last version of a parked aggregate, since it was written with its other fields."""

    role: str
    aggregate_id: str
    last: int


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that append parks, with the version that it will have."""

    event: EventRecord
    role: str = "append"


WAITING = "waits for the rest of its redrive"
"""The reason of an aggregate that is handled again by itself."""
UNDECLARED = "UndeclaredEvent"
"""Begins the reason of an aggregate that append parks since it is older than an event."""

ParkedEntry = ParkedAggregate | ParkedBehind | DiscardedEvent | ParkedEvent

_encode = msgspec.json.Encoder().encode
_PARKED, _BEHIND, _DISCARDED, _EVENT = "parked/", "behind/", "discarded/", "event/"
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    _PARKED: msgspec.json.Decoder(ParkedAggregate),
    _BEHIND: msgspec.json.Decoder(ParkedBehind),
    _DISCARDED: msgspec.json.Decoder(DiscardedEvent),
}


def parked_record(
    topic: str, role: str, partition: int, aggregate_id: str, parked: ParkedAggregate | None
) -> ProducerRecord:
    """Make the record that says what a role parks of an aggregate; None: nothing any more."""
    key = f"{_PARKED}{role}/{aggregate_id}".encode()
    value = _encode(parked) if parked else None
    return ProducerRecord(topic, key, value, partition)


def behind_record(
    topic: str, role: str, partition: int, aggregate_id: str, last: int | None
) -> ProducerRecord:
    """Make the record of a parked aggregate's last version; None: it is parked no longer.

    It is short: the aggregate's own record, with reason and traceback, stays as it is.
    """
    key = f"{_BEHIND}{role}/{aggregate_id}".encode()
    value = None if last is None else _encode(ParkedBehind(role, aggregate_id, last))
    return ProducerRecord(topic, key, value, partition)


def discarded_record(topic: str, partition: int, event: DiscardedEvent) -> ProducerRecord:
    """Make the record of a discarded event."""
    key = f"{_DISCARDED}{event.role}/{event.version}/{event.aggregate_id}".encode()
    return ProducerRecord(topic, key, _encode(event), partition)


def parked_event_record(
    topic: str, partition: int, aggregate_id: str, version: int, event: EventRecord | None
) -> ProducerRecord:
    """Make the record of an event that append parks; None: it is parked no longer."""
    key = f"{_EVENT}{version}/{aggregate_id}".encode()
    value = encode(event) if event else None
    return ProducerRecord(topic, key, value, partition)


def is_parked_event(record: LogRecord) -> bool:
    """Return whether it is the record of an event that append parks, or parked."""
    return (record.key or b"").startswith(_EVENT.encode())


def read_parked(record: LogRecord) -> tuple[str, ParkedEntry | None]:
    """Return a record's key, and what it says; None where it ends that, or is of another kind.

    DecodeError, InvalidRecord: it can't be read.
    """
    key = (record.key or b"").decode()
    if record.value is None:
        return key, None
    kind, slash, _ = key.partition("/")
    if kind + slash == _EVENT:
        return key, ParkedEvent(decode_stored(record.value))
    entry: ParkedEntry
    if decoder := _decoders.get(kind + slash):
        entry = decoder.decode(record.value)
        return key, entry
    with suppress(msgspec.DecodeError):  # before they had a kind, keys began with the role
        entry = _decoders[_PARKED].decode(record.value)
        return key, entry
    return key, None
