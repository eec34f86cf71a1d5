"""Ends work for a client that has left."""

import asyncio
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive

WATCH_AFTER_SECONDS = 0.05
"""Most requests are answered sooner, and cost no task that watches."""


class DisconnectWatch:
    """Ends a block with ClientDisconnect when the client leaves. The block must not receive."""

    __slots__ = ("_before", "_left", "_receive", "_task", "_timer", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._left = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("DisconnectWatch must be entered inside a task")
        self._task, self._before = task, task.cancelling()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watch:
            self._watch.cancel()
        if not self._left or self._task.uncancel() > self._before:
            return
        if kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def _start(self) -> None:
        self._watch = asyncio.create_task(self._wait(), name="client's disconnect")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._task.cancel()
