"""CommandEnvelope: a command addressed to an aggregate."""

from dataclasses import is_dataclass
from typing import Annotated, Any, Generic, TypeVar, overload

import msgspec
from msgspec import Meta
from msgspec.inspect import DataclassType, StructType, type_info
from msgspec.structs import replace

from eventfleet.model.payloads import Data
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.codec import convert
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import MAX_ID_CHARS

P = TypeVar("P")

Name = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS, pattern=r"\A[^\0]*\Z")]
Metadata = dict[str, Any]

_ids = Uuid7Generator()


class CommandEnvelope(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """A command addressed to an aggregate: the envelope around its payload.

        CommandEnvelope.of("CreateUser", "user123", {"name": "John Doe"})
        CommandEnvelope.of(CreateUser(name="John Doe"), "user123")

    The payload is an object of a class of the team's (an `eventfleet.Command`, any msgspec Struct
    or a dataclass), whose name is the command's, or plain JSON values. A command with the same `id`
    is the same command. Of the `metadata` its events carry `actor`, `correlation_id`,
    `causation_id` and `traceparent`; the rest is for middleware and handlers.
    """

    name: str
    aggregate_id: str
    payload: P
    id: str
    metadata: Metadata

    @overload
    @classmethod
    def of(
        cls,
        command: str,
        aggregate_id: str,
        data: Data,
        *,
        id: str | None = None,
        metadata: Metadata | None = None,
    ) -> "CommandEnvelope[Data]": ...

    @overload
    @classmethod
    def of(
        cls,
        command: P,
        aggregate_id: str,
        *,
        id: str | None = None,
        metadata: Metadata | None = None,
    ) -> "CommandEnvelope[P]": ...

    @classmethod
    def of(
        cls,
        command: Any,
        aggregate_id: str,
        data: Data | None = None,
        *,
        id: str | None = None,
        metadata: Metadata | None = None,
    ) -> "CommandEnvelope[Any]":
        """Address a command, given as its payload or as its name and data, to an aggregate.

        Without an `id` it gets a new one. InvalidRecord: name, aggregate id or id is empty, too
        long or has a NUL. TypeError: the payload is no object of a Struct or dataclass.
        """
        named = isinstance(command, str)
        if named == (data is None) or not (named or is_payload_class(type(command))):
            raise TypeError(
                "a command is a Struct's or dataclass' object, or a name and a dict of data, not "
                f"{type(command).__name__} and {type(data).__name__}"
            )
        return CommandEnvelope(
            name=convert(command if named else type(command).__name__, Name, "name"),
            aggregate_id=convert(aggregate_id, Name, "aggregate_id"),
            payload=data if named else command,
            id=_ids.new() if id is None else convert(id, Name, "id"),
            metadata=dict(metadata or {}),
        )

    def with_payload_of(self, kind: type[P]) -> "CommandEnvelope[P]":
        """Return the command with its payload validated as `kind`.

        InvalidRecord names the field, under `data`, that is missing, unknown or of another type.
        """
        plain = msgspec.to_builtins(self.payload, str_keys=True)
        if isinstance(plain, dict):
            _refuse_unknown(plain, kind)
        return replace(self, payload=convert(plain, kind, "data"))


def is_payload_class(kind: type) -> bool:
    """Return whether objects of this class can be the payload of a command."""
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or is_dataclass(kind))


def _refuse_unknown(data: Data, kind: type) -> None:
    """Refuse a field that the class does not have, also where msgspec would pass over it."""
    info = type_info(kind)
    assert isinstance(info, StructType | DataclassType)
    known = {field.encode_name for field in info.fields}
    if isinstance(info, StructType):
        known.add(info.tag_field or "")
    if unknown := sorted(str(name) for name in data if name not in known):
        raise InvalidRecord(f"data.{unknown[0]}", "is not a known field")
