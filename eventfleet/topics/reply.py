"""Replies to commands, on `<domain>.replies`."""

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, WIRE_NAMES, Identifier
from eventfleet.topics.values import DECODE_ERRORS

INVALID = "invalid"
"""The outcome of a record that is not a command of its domain; the others are of decisions."""

MAX_REASON_CHARS = 1000
"""Of the reason why a record is invalid, which may quote the record."""


class CommandHeader(Protocol):
    """The attributes of a command that its reply needs."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def aggregate_id(self) -> str: ...
    @property
    def reply_to(self) -> str | None: ...
    @property
    def correlation_id(self) -> str | None: ...


class InvalidCommandHeader(msgspec.Struct, frozen=True, rename=WIRE_NAMES):
    """The fields of a record that is no command, for its reply; unreadable ones are empty."""

    id: Identifier
    reply_to: Annotated[str, Meta(min_length=1)]
    type: Any = ""
    aggregate_id: Any = ""
    correlation_id: Any = None


class Reply(msgspec.Struct, gc=False):
    """A reply as written; details that an outcome does not have are absent."""

    command_id: str
    command: str
    aggregate_id: str
    outcome: str
    reply_to: str | None
    correlation_id: str | None
    event_id: str | UnsetType = UNSET
    place: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    published: bool | UnsetType = UNSET
    field: str | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    marked: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(InvalidCommandHeader).decode


def encode_reply(command: CommandHeader, outcome: str, details: dict[str, Any]) -> bytes:
    """Encode a reply as JSON: the command's attributes, the outcome's name and its details."""
    return _encode(
        Reply(
            command.id,
            command.type,
            command.aggregate_id,
            outcome,
            command.reply_to,
            command.correlation_id,
            **details,
        )
    )


def encode_invalid_reply(value: bytes | None, error: InvalidRecord) -> tuple[str, bytes] | None:
    """Encode the reply to a record that is not a command, after its aggregate's id, "" if unknown.

    None: nobody can be answered, since the record's `id` or `replyto` can't be read, or since the
    reply would be larger than its topic takes.
    """
    try:
        header = _decode_header(value or b"")
    except DECODE_ERRORS:
        return None
    aggregate_id = _text(header.aggregate_id) or ""
    known = InvalidCommandHeader(
        header.id,
        header.reply_to,
        _text(header.type) or "",
        aggregate_id,
        _text(header.correlation_id),
    )
    details = {
        "field": error.field[:MAX_REASON_CHARS],
        "reason": error.reason[:MAX_REASON_CHARS],
    }
    reply = encode_reply(known, INVALID, details)
    return (aggregate_id, reply) if len(reply) <= MAX_EVENT_BYTES else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
