"""Middleware of the Dispatcher: retries of conflicts, and commands that were handled before."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from eventfleet.aggregates.command_envelope import CommandEnvelope
from eventfleet.aggregates.dispatcher import CallNext
from eventfleet.aggregates.repository import Repository
from eventfleet.stores.errors import EditConflict
from eventfleet.stores.retry import CONFLICT

MAX_ATTEMPTS = 5


class RetryOnConflict:
    """Middleware: handles a command again when another writer came first.

    The handler must load the aggregate anew each time. The last EditConflict passes through, and so
    does one that expects the same version as the one before: the caller named it, and no retry
    brings it back.
    """

    def __init__(
        self,
        attempts: int = MAX_ATTEMPTS,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """A command is handled up to `attempts` times, after growing and random pauses."""
        self._policy, self._sleep = replace(CONFLICT, attempts=attempts), sleep

    async def __call__(self, command: CommandEnvelope[Any], call_next: CallNext) -> Any:
        expected: set[int] = set()

        def can_help(error: Exception) -> bool:
            if not isinstance(error, EditConflict) or error.expected in expected:
                return False
            expected.add(error.expected)
            return True

        return await self._policy.retry(partial(call_next, command), can_help, sleep=self._sleep)


class SkipRepeated:
    """Middleware: a command whose events a repository has stored is done, and returns None.

    So a caller who got no answer may send the command again, with the same id. Costs a query for
    each command and repository. InvalidRecord: the id was used for another command.
    """

    def __init__(self, *repositories: Repository[Any]) -> None:
        self._repositories = repositories

    async def __call__(self, command: CommandEnvelope[Any], call_next: CallNext) -> Any:
        for repository in self._repositories:
            if await repository.find_events(command):
                return None
        return await call_next(command)
