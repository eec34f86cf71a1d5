"""The bases of what a team declares: events, states, commands."""

from typing import Any

import msgspec

Data = dict[str, Any]

# Frozen at run time for every subclass, without each having to say so to a type checker.
_FROZEN: dict[str, Any] = {"frozen": True}


class Event(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, **_FROZEN):
    """Base of a payload type; the class's name is the event type. Fields may carry constraints."""


class State(msgspec.Struct, kw_only=True, **_FROZEN):
    """Base of an aggregate's state; every field needs a default, for the state before any event."""


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, **_FROZEN):
    """Base of a command's payload; the class's name is the command's name."""


class SchemalessPayload(msgspec.Struct, frozen=True):
    """The payload of any event in a schema-free domain."""

    type: str
    data: Data
