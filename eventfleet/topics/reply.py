"""Replies to commands, on `<domain>.replies`."""

from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType


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
    problem: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    marked: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


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
