"""Command rules: each maps one command of a domain to events, or rejects it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Command, Event
from eventfleet.model.type_checks import has_same_schema

START = ""
"""Stands for an aggregate without any event in the `after` of a command."""


@dataclass(frozen=True)
class Emits:
    """The rule of a command that becomes one event of the same fields.

        Emits(Pay, Paid, after=[Placed])

    The command is accepted when the aggregate's latest event is one of `after`, any collection of
    event types (START: the aggregate has no event); without `after`, always. Names instead of
    classes serve schema-free domains: the command's name and the event's type. DeclarationError:
    `after` is not a collection, or is a string.
    """

    command: type[Command] | str
    event: type[Event] | str
    after: Collection[type[Event] | str] | None = None

    def __post_init__(self) -> None:
        if self.after is not None:
            object.__setattr__(self, "after", event_types(f"Emits({self.name}): after", self.after))

    @cached_property
    def name(self) -> str:
        """The command's name."""
        return name_of(self.command)

    @cached_property
    def type(self) -> str:
        """The event's type."""
        return name_of(self.event)

    @cached_property
    def allowed(self) -> frozenset[str] | None:
        """The names of the types in `after`; None allows any."""
        return None if self.after is None else frozenset(name_of(kind) for kind in self.after)

    @cached_property
    def same_schema(self) -> bool:
        """True when every payload that is valid for the command is valid for the event."""
        if isinstance(self.command, str) or isinstance(self.event, str):
            return False
        return has_same_schema(self.command, self.event)


@dataclass(frozen=True)
class Rejection:
    """The result of `decide` for a command that the state does not allow."""

    reason: str


Decision = Event | Sequence[Event] | Rejection
Decide = Callable[[Any, Any], Decision]
"""Decides a command on the latest state: one event or more, all or none, or a Rejection."""

CommandRule = Emits | type[Command]
"""The rule of one command; a bare class is a command for the domain's `decide`."""


def event_types(where: str, types: Collection[type[Event] | str]) -> frozenset[type[Event] | str]:
    """Return a collection of event types as a set.

    DeclarationError, which begins with `where`: it is a string or no collection, or an item is
    neither a class nor a name.
    """
    if isinstance(types, str) or not isinstance(types, Collection):
        name = types.__name__ if isinstance(types, type) else repr(types)
        raise DeclarationError(f"{where} must be a collection of event types: write [{name}]")
    for item in types:
        if not isinstance(item, str | type):
            raise DeclarationError(f"{where} has {item!r}, which is neither a class nor a name")
    return frozenset(types)


def name_of(kind: type | str) -> str:
    """Return the name of a payload type, given as a class or as the name itself."""
    return kind if isinstance(kind, str) else kind.__name__


def command_name(rule: CommandRule) -> str:
    """Return the command's name on the wire."""
    return rule.name if isinstance(rule, Emits) else rule.__name__


def command_class(rule: CommandRule) -> type[Command] | None:
    """Return the class of the command's payload; None in a schema-free domain."""
    kind = rule.command if isinstance(rule, Emits) else rule
    return None if isinstance(kind, str) else kind
