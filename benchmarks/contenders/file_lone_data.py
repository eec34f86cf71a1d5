"""Deposits into warm accounts, one after the other by a lone caller, or by many at once."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count

from benchmarks.contenders.task import ContenderTask

BLOCKS = 5
"""Of a lone caller's commands; another kind of commands may come between two blocks."""
WARM_ACCOUNTS = 20
CALLERS = 100

Deposit = Callable[[str], Awaitable[None]]
"""Opens an account where it is new, otherwise deposits; raises unless it is accepted."""


def count_lone(task: ContenderTask) -> int:
    """Return how many commands of a lone caller are timed."""
    return int(task.extra["lone"])


def callers_accounts() -> list[str]:
    """Return the account of each of many callers."""
    return [f"caller-{number}" for number in range(CALLERS)]


async def warm_up(deposit: Deposit) -> None:
    """Deposit twice into each of a lone caller's accounts."""
    for account in _lone_accounts(2 * WARM_ACCOUNTS):
        await deposit(account)


async def time_block(task: ContenderTask, deposit: Deposit) -> list[float]:
    """Return the seconds of each command of a lone caller's next block."""
    return [seconds async for seconds in _timed(deposit, count_lone(task) // BLOCKS)]


async def _timed(deposit: Deposit, commands: int) -> AsyncIterator[float]:
    for account in _lone_accounts(commands):
        started = time.perf_counter()
        await deposit(account)
        yield time.perf_counter() - started


def _lone_accounts(commands: int) -> Iterator[str]:
    for number in range(commands):
        yield f"warm-{number % WARM_ACCOUNTS}"


class Turns:
    """The commands that many callers share: an iteration of a caller ends when all are taken."""

    def __init__(self, commands: int) -> None:
        self._commands, self._numbers = commands, count()

    def __iter__(self) -> Iterator[int]:
        # `count` gives each number once, to whichever thread asks.
        while (number := next(self._numbers)) < self._commands:
            yield number
