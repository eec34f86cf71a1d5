"""The rows that an audit sorts: each says one thing of one event, or of one aggregate's state.

Rows of an event have its aggregate id and event id; rows of a state have no event id, and those of
a record that is no event have a name made of its place in the log.
"""

from hashlib import blake2b
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from eventfleet.topics.event import EventRecord

DIGEST_BYTES = 16
STATE = ""
"""The event id of rows on an aggregate's state."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class AuditRow(msgspec.Struct, array_like=True, gc=False, tag_field="row"):
    """Base of rows; rows with the same ids are judged together."""

    aggregate_id: str
    event_id: str


class EventInStore(AuditRow, array_like=True, gc=False, tag=0):
    """An event in the store. `position`: "" while it has none. `routes`: a bit for each matching
    route. `along`: a higher version was placed at the same position. `discarded`: it is marked so.
    """

    version: int
    position: str
    digest: bytes
    schema_version: int
    type: str
    routes: int
    along: bool
    discarded: bool = False


class LoggedEvent(AuditRow, array_like=True, gc=False, tag=1):
    """A record of `<domain>.events` that is an event."""

    partition: int
    offset: int
    digest: bytes
    prev: str | None


class UnreadableRecord(AuditRow, array_like=True, gc=False, tag=2):
    """A record of `<domain>.events` that is no event."""

    partition: int
    offset: int


class EventCopy(AuditRow, array_like=True, gc=False, tag=3):
    """A record in topic number `topic`: 0 is `<domain>.stored`, the others are the routes'.

    `late`: a copy of a higher version of the aggregate comes before it.
    """

    topic: int
    partition: int
    offset: int
    version: int
    position: str
    digest: bytes
    schema_version: int
    late: bool = False


class DeadLetter(AuditRow, array_like=True, gc=False, tag=4):
    """A dead letter of append: the place of its record, and why it was refused."""

    partition: int
    offset: int
    kind: str
    reason: str
    prev: str | None


class AcceptedReply(AuditRow, array_like=True, gc=False, tag=5):
    """A reply that a command was accepted with this event."""

    command_id: str


class Successor(AuditRow, array_like=True, gc=False, tag=6):
    """A superseded event that names this event as the one before it."""

    superseded: str
    partition: int
    offset: int


class MarkedEvent(AuditRow, array_like=True, gc=False, tag=7):
    """An event that a marker names as the latest; `head` was the stored version just before.

    `type`: that of the marker; "" where a note stands, whose type the marker has.
    """

    head: int
    type: str


class FoldedState(AuditRow, array_like=True, gc=False, tag=8):
    """The digest of an aggregate's folded state at a version of which a snapshot is stored."""

    version: int
    digest: bytes


class PublishedState(AuditRow, array_like=True, gc=False, tag=9):
    """A record of `<domain>.snapshots`; `taken_at` in seconds since 1970."""

    version: int
    digest: bytes
    partition: int
    taken_at: float


class DiscardDecision(AuditRow, array_like=True, gc=False, tag=10):
    """A recorded decision that all states are folded without an event."""

    version: int
    by: str


AnyRow = (
    EventInStore
    | LoggedEvent
    | UnreadableRecord
    | EventCopy
    | DeadLetter
    | AcceptedReply
    | Successor
    | MarkedEvent
    | FoldedState
    | PublishedState
    | DiscardDecision
)


def parked_row(event: EventRecord) -> EventInStore:
    """Return the row of an event that append parks: it may be one that can't be read."""
    fields = event.aggregate_id, event.id, event.version, "", event_digest(event)
    return EventInStore(
        *fields,
        event.schema_version,
        event.type,
        routes=0,
        along=False,
        discarded=event.discarded,
    )


def event_digest(event: EventRecord) -> bytes:
    """Return a digest of the event apart from version and position, from the mark of a discarded
    one, which only the store has, and from the address of a waiting caller, which it has not."""
    bare = replace(event, version=0, position=None, discarded=False, reply_to=None)
    return blake2b(_encode(bare), digest_size=DIGEST_BYTES).digest()


def state_digest(state: Any) -> bytes:
    """Return a digest of a dumped state. TypeError: JSON can't write it."""
    plain = orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
    return blake2b(plain, digest_size=DIGEST_BYTES).digest()


def name_of_record(topic: str, partition: int, offset: int) -> str:
    """Return the event id that stands for a record without a readable one: no event has a NUL."""
    return f"\0{topic}/{partition}/{offset}"
