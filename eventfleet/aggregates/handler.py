"""Handlers of commands: a function, or an object with `handle_command`."""

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Protocol

from eventfleet.aggregates.command_envelope import CommandEnvelope

CommandFunction = Callable[[CommandEnvelope[Any]], Any]
"""Handles a command; may be asynchronous."""


class CommandHandler(Protocol):
    """An object that handles commands."""

    def handle_command(self, command: CommandEnvelope[Any]) -> Any:
        """Handle a command; may be asynchronous.

        What it returns or raises reaches the caller of `dispatch`.
        """


Handler = CommandFunction | CommandHandler


def handler_function(handler: Handler) -> CommandFunction:
    """Return the function of a handler. TypeError: it is no handler."""
    function = getattr(handler, "handle_command", handler)
    if not callable(function) or isinstance(handler, type):
        raise TypeError(f"{handler!r} is neither a function nor an object with `handle_command`")
    return function


async def call_handler(function: CommandFunction, command: CommandEnvelope[Any]) -> Any:
    """Return what the function returns, awaited where it is asynchronous."""
    result = function(command)
    return await result if isawaitable(result) else result
