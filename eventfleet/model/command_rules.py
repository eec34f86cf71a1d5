"""Command rules: each maps one command of a domain to events, or rejects it."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Command, Event
from eventfleet.model.type_checks import has_same_schema
from eventfleet.topics.names import wire_name

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
        return wire_name(self.command)

    @cached_property
    def type(self) -> str:
        """The event's type."""
        return wire_name(self.event)

    @cached_property
    def allowed(self) -> frozenset[str] | None:
        """The names of the types in `after`; None allows any."""
        return None if self.after is None else frozenset(map(wire_name, self.after))

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


@dataclass(frozen=True)
class CommandContext:
    """The circumstances of a command, for `decide` to know beside its payload.

    `actor` is who sent it, such as a token's subject; `time` when it was sent. `seen` has the
    events that the command's rule `sees`, by the ids of the commands that they come of.
    """

    aggregate_id: str
    command_id: str
    time: datetime
    actor: str | None = None
    seen: Mapping[str, Any] = field(default_factory=dict)


Decision = Event | Sequence[Event] | Rejection
Decide = Callable[..., Decision]
"""Decides a command on the latest state: one event or more, all or none, or a Rejection.

Its parameters are the state, the command, and if it takes a third, the CommandContext.
"""


@dataclass(frozen=True)
class Decides:
    """The rule of a command for the domain's `decide`, which sees earlier events beside the state.

        Decides(EditMessage, sees=lambda edit: [edit.message_id])

    `sees` returns the ids of earlier commands to the same aggregate. The first event of each, if
    it is stored, is read together with the state, and is in the CommandContext. So a decision may
    rest on an event of long ago, which the state has no room for.
    """

    command: type[Command]
    sees: Callable[[Any], Collection[str]]


CommandRule = Emits | Decides | type[Command]
"""The rule of one command; a bare class is a command for the domain's `decide`."""


def takes_context(decide: Decide) -> bool:
    """Return whether `decide` takes a CommandContext. DeclarationError: it can't be called."""
    try:
        signature = inspect.signature(decide)
    except (TypeError, ValueError):
        raise DeclarationError(f"`decide` is {decide!r}, which is no function") from None
    for arguments in (2, 3):
        try:
            signature.bind(*[None] * arguments)
        except TypeError:
            continue
        return arguments == 3
    wanted = "(state, command) or (state, command, context)"
    raise DeclarationError(f"`decide` must take {wanted}, not {signature}")


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


def command_name(rule: CommandRule) -> str:
    """Return the command's name on the wire."""
    if isinstance(rule, Emits):
        return rule.name
    return rule.command.__name__ if isinstance(rule, Decides) else rule.__name__


def command_class(rule: CommandRule) -> type[Command] | None:
    """Return the class of the command's payload; None in a schema-free domain."""
    kind = rule.command if isinstance(rule, Emits | Decides) else rule
    return None if isinstance(kind, str) else kind
