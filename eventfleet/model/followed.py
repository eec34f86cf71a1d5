"""Followed: lets clients follow a domain's aggregates over sockets."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Command
from eventfleet.topics.names import wire_name


@dataclass(frozen=True)
class Followed:
    """The sockets of a domain: clients follow an aggregate's events from a version on.

        Domain(..., followed=Followed(commands=[Post, Deliver]))

    `commands` are those that a socket may send, any collection of the domain's own; without them
    clients only read. DeclarationError: it is not a collection, or is a string.
    """

    commands: Collection[type[Command] | str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.commands, str) or not isinstance(self.commands, Collection):
            given = f"commands={self.commands!r}"
            raise DeclarationError(f"Followed: {given} is no collection of commands")

    @cached_property
    def command_names(self) -> frozenset[str]:
        """The names of the commands on the wire."""
        return frozenset(map(wire_name, self.commands))
