"""What a domain says of its commands: how each becomes events, or is rejected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eventfleet.model.payloads import Command, Event
from eventfleet.model.type_checks import has_same_schema

START = ""
"""Stands for an aggregate without any event in the `after` of a command."""


@dataclass(frozen=True)
class Emits:
    """`command` becomes one event, `event`, of the same fields.

    It is accepted when the aggregate's latest event is one of `after` (START: it has none); without
    `after` always. A name instead of classes serves schema-free domains: the command's name is the
    event's type.
    """

    command: type[Command] | str
    event: type[Event] | str
    after: frozenset[type[Event] | str] | None = None

    @cached_property
    def name(self) -> str:
        return name_of(self.command)

    @cached_property
    def type(self) -> str:
        return name_of(self.event)

    @cached_property
    def allowed(self) -> frozenset[str] | None:
        return None if self.after is None else frozenset(name_of(kind) for kind in self.after)

    @cached_property
    def same_schema(self) -> bool:
        """Whether what fits the command fits the event."""
        if isinstance(self.command, str) or isinstance(self.event, str):
            return False
        return has_same_schema(self.command, self.event)


@dataclass(frozen=True)
class Rejection:
    """What `decide` answers to a command that the state does not allow."""

    reason: str


Decision = Event | Sequence[Event] | Rejection
Decide = Callable[[Any, Any], Decision]
"""From the latest state and a command to what follows: one event or more, all or none."""

CommandRule = Emits | type[Command]
"""One command of a domain: a bare class is one that the domain's `decide` decides."""


def name_of(kind: type | str) -> str:
    """The name of a payload type, or of a declared command."""
    return kind if isinstance(kind, str) else kind.__name__


def command_name(declared: CommandRule) -> str:
    """What it is called on the wire."""
    return declared.name if isinstance(declared, Emits) else declared.__name__


def command_class(declared: CommandRule) -> type[Command] | None:
    """Of its payload; None in a schema-free domain."""
    kind = declared.command if isinstance(declared, Emits) else declared
    return None if isinstance(kind, str) else kind
