"""The base classes of the events, states and commands that a team declares."""

from typing import Any

import msgspec

Data = dict[str, Any]

# Frozen at run time for every subclass, without each having to declare it for a type checker.
FROZEN: dict[str, Any] = {"frozen": True}


class Event(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, **FROZEN):
    """Base of an event's payload. Constraints are allowed.

    The class's name is the event type, unless the class declares another:
    `event_type: ClassVar[str] = "MESSAGE_SENT"`.
    """


class State(msgspec.Struct, kw_only=True, **FROZEN):
    """Base of an aggregate's state. Every field needs a default: the state before any event."""


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, **FROZEN):
    """Base of a command's payload; the class's name is the command's name."""


class SchemalessPayload(msgspec.Struct, frozen=True):
    """The payload of any event in a schema-free domain."""

    type: str
    data: Data
