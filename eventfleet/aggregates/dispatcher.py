"""Dispatcher: hands each command through the middleware to its one handler."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from eventfleet.aggregates.command_envelope import CommandEnvelope, is_payload_class
from eventfleet.aggregates.errors import AlreadyRegistered, NotRegistered
from eventfleet.aggregates.handler import (
    CommandFunction,
    Handler,
    call_handler,
    handler_function,
)

CallNext = Callable[[CommandEnvelope[Any]], Awaitable[Any]]
"""Calls the next middleware, in the end the handler, and returns its result."""

Middleware = Callable[[CommandEnvelope[Any], CallNext], Awaitable[Any]]
"""Wraps the handling of each command: it may look, refuse by raising, or call next again."""


class Registration(NamedTuple):
    """A command's handler, and the class of its payload (None: payloads stay as they are given)."""

    function: CommandFunction
    kind: type[Any] | None


class Dispatcher:
    """Dispatches commands, each to the one handler of its name; any number at the same time.

        async def log(command, call_next):
            logger.info("%s %s", command.name, command.aggregate_id)
            return await call_next(command)

        dispatcher = Dispatcher([log, RetryOnConflict()])
        dispatcher.register(CreateUser, create_user)
        await dispatcher.dispatch(CommandEnvelope.of("CreateUser", "user123", {"name": "John Doe"}))

    The first middleware is the outermost.
    """

    def __init__(self, middleware: Sequence[Middleware] = ()) -> None:
        self._middleware = tuple(middleware)
        self._registrations: dict[str, Registration] = {}

    def register(self, command: type[Any] | str, handler: Handler) -> None:
        """Register the handler of a command, given as the class of its payload or as its name.

        With a class each payload is validated, and the handler gets an object of the class.
        AlreadyRegistered: the command has a handler. TypeError: a wrong class, or no handler.
        """
        kind = None if isinstance(command, str) else command
        if kind is not None and not is_payload_class(kind):
            raise TypeError(f"{kind!r} is neither a Struct nor a dataclass")
        name = command if isinstance(command, str) else command.__name__
        if name in self._registrations:
            raise AlreadyRegistered("command", name)
        self._registrations[name] = Registration(handler_function(handler), kind)

    async def dispatch(self, command: CommandEnvelope[Any]) -> Any:
        """Handle a command, and return what its handler returns; what is raised passes through.

        NotRegistered: the command has no handler. InvalidRecord: the payload does not fit the
        command's class. Neither reaches the middleware.
        """
        kind = self._registration(command).kind
        typed = command if kind is None else command.with_payload_of(kind)
        return await self._call(0, typed)

    async def _call(self, index: int, command: CommandEnvelope[Any]) -> Any:
        """Call the middleware from this index on, and then the handler."""
        if index < len(self._middleware):
            return await self._middleware[index](command, partial(self._call, index + 1))
        return await call_handler(self._registration(command).function, command)

    def _registration(self, command: CommandEnvelope[Any]) -> Registration:
        try:
            return self._registrations[command.name]
        except KeyError:
            raise NotRegistered("command", command.name, self._registrations) from None
