"""Calls that event loops make and threads of the file run."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import apsw

T = TypeVar("T")

Job = Callable[[apsw.Connection], T]
"""What is done within one transaction; it may run in a group with others."""

Action = Callable[[], None]


class Call(NamedTuple):
    """A job, and the future of the loop that waits for its result."""

    run: Job[Any]
    is_synced: bool
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]

    def end(self, value: Any, error: BaseException | None) -> None:
        """Set the result, on the loop. Who stopped waiting is not told."""
        if self.result.done():
            return
        if error is None:
            self.result.set_result(value)
        else:
            self.result.set_exception(error)


Calls = SimpleQueue[Call | None]
"""What a thread is to run; None ends it."""


def run_soon(loop: asyncio.AbstractEventLoop, actions: Iterable[Action]) -> None:
    """Run the actions on a loop of another thread, unless that has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_run, actions)


def _run(actions: Iterable[Action]) -> None:
    for action in actions:
        action()
