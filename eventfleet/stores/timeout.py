"""Timeout, which bounds the time that a task takes for a block."""

import asyncio
from types import TracebackType
from typing import Self


class Timeout:
    """Ends a block with TimeoutError some seconds after the Timeout is made.

    Works like asyncio.timeout, at a quarter of its cost, which each request, each command and most
    calls of servers pay.
    """

    __slots__ = ("_before", "_deadline", "_expired", "_loop", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Timeout must be entered inside a task")
        self._task, self._before = task, task.cancelling()
        self._timer = self._loop.call_at(self._deadline, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._expired or self._task.uncancel() > self._before:
            return
        if kind is asyncio.CancelledError:
            raise TimeoutError from None

    def time(self) -> float:
        """Returns the time of the clock that counts."""
        return self._loop.time()

    @property
    def expired(self) -> bool:
        """True once the block is being ended; it may then raise an error of its own instead."""
        return self._expired

    def extend(self, seconds: float) -> None:
        self._deadline += seconds
        self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
