"""The answer to a command, on `<domain>.replies`."""

from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType


class CommandHeader(Protocol):
    """A command, or what its answer needs of it."""

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
    """An answer on the wire; an outcome's details are absent where it has none."""

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
    reason: str | UnsetType = UNSET
    marked: str | UnsetType = UNSET


_write = msgspec.json.Encoder().encode


def encode_reply(command: CommandHeader, outcome: str, details: dict[str, Any]) -> bytes:
    """A JSON object: the command's id, name and aggregate, the outcome's name and details."""
    return _write(
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
