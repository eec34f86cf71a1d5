"""Events and commands as they travel and are stored: CloudEvents 1.0 envelopes around a payload.

The id of a command's event is derived from the command's, so that a repeated command is the same
event.
"""

from datetime import UTC, datetime
from hashlib import sha1
from typing import Annotated, Any, Literal, NamedTuple, Protocol
from uuid import UUID

import msgspec
from msgspec import Meta

from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import MAX_ID_CHARS

MAX_EVENT_BYTES = 950_000

DomainName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,99}\Z")]
Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
Instant = Annotated[datetime, Meta(tz=True)]
ExpectedVersion = Annotated[int, Meta(ge=0, le=2**63 - 1)] | Literal["*"]
"""The version that a command was decided on: 0 before any event, "*" is any but 0."""

EXPECTED_VERSION = "expectedversion"

WIRE_NAMES = {
    "domain": "source",
    "aggregate_id": "subject",
    "schema_version": "schemaversion",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
    "reply_to": "replyto",
    "expected_version": EXPECTED_VERSION,
}

EVENT_IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11")
_NAMESPACE = EVENT_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


class Position(NamedTuple):
    """The place of an event in `<domain>.events`; with its version, its place in the order."""

    epoch: int
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Parse `epoch-partition-offset`."""
        epoch, partition, offset = text.split("-")
        return cls(int(epoch), int(partition), int(offset))


class EventKey(NamedTuple):
    """The key of an event: its aggregate's id and its own. Event ids are unique per aggregate."""

    aggregate_id: str
    event_id: str


class CloudEvent(
    msgspec.Struct, frozen=True, rename=WIRE_NAMES, tag_field="specversion", tag="1.0"
):
    """Base of structs that are spelt on the wire as CloudEvents 1.0 requires."""


class EventRecord(
    CloudEvent, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """An event of an aggregate.

    `version` is 0 until the event has one (1..n in its aggregate); `position` is None until append
    has placed the event. `prev` is the id of the event before it according to the marker: the empty
    string on an aggregate's first, None on events made without a marker. `fingerprint` is that of
    the command which made the event, in a synchronous domain. `discarded`: states are folded
    without it, as an operator has decided; only the store says so. Times are UTC, whole
    milliseconds.
    """

    id: Identifier
    type: Identifier
    domain: str
    aggregate_id: Identifier
    time: Instant
    data: dict[str, Any]
    schema_version: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    position: str | None = None
    prev: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    reply_to: str | None = None
    fingerprint: str | None = None
    discarded: bool = False

    @property
    def key(self) -> EventKey:
        return EventKey(self.aggregate_id, self.id)


class CommandRecord(EventRecord, frozen=True, kw_only=True, omit_defaults=True):
    """A command on its way: `type` is its name, `data` its payload.

    With an `expected_version` the command holds for an aggregate of this version only. The
    attribute says when the command applies, not what it is: no event and no fingerprint has it.
    """

    expected_version: ExpectedVersion | None = None


class UndecodedCommand(CloudEvent, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A command whose payload is not decoded yet; further attributes are not taken."""

    id: Identifier
    type: str
    domain: str
    aggregate_id: Identifier
    time: Instant
    data: msgspec.Raw
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    reply_to: str | None = None
    expected_version: ExpectedVersion | None = None


class FoldableEvent(Protocol):
    """The attributes of an event that folding takes; `data` may be of the payload's own type."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def aggregate_id(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def version(self) -> int: ...
    @property
    def data(self) -> Any: ...
    @property
    def reply_to(self) -> str | None: ...


def truncate_to_milliseconds(moment: datetime) -> datetime:
    """Convert a moment to UTC and cut it to whole milliseconds, which BSON keeps.

    InvalidRecord: in UTC it is outside the years 1 to 9999.
    """
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRecord("time", "is outside the years 1 to 9999 in UTC") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def is_in_milliseconds(moment: datetime) -> bool:
    """Return whether `truncate_to_milliseconds` would change nothing."""
    return moment.tzinfo is UTC and not moment.microsecond % 1000


def event_of_command(
    command: UndecodedCommand | CommandRecord,
    kind: str,
    data: Any,
    schema_version: int = 1,
    fingerprint: str | None = None,
) -> EventRecord:
    """Make the event of a command, of several the first. Its causation is the command; so is its
    correlation, unless the command has another."""
    return EventRecord(
        id=event_id(command.domain, command.aggregate_id, command.id),
        type=kind,
        domain=command.domain,
        aggregate_id=command.aggregate_id,
        time=command.time,
        data=data,
        schema_version=schema_version,
        correlation_id=command.correlation_id or command.id,
        causation_id=command.causation_id or command.id,
        actor=command.actor,
        traceparent=command.traceparent,
        reply_to=command.reply_to,
        fingerprint=fingerprint,
    )


def event_id(domain: str, aggregate_id: str, command_id: str, index: int = 0) -> str:
    """Return the id of a command's event, the first unless `index` says another.

    It is the UUIDv5 of its arguments in EVENT_IDS.
    """
    return derived_id(_NAMESPACE, f"{domain}\0{aggregate_id}\0{command_id}\0{index}")


def derived_id(namespace: bytes, name: str) -> str:
    """Return the UUIDv5 of a name in a namespace's 16 bytes, at a fraction of uuid5's cost."""
    h = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
