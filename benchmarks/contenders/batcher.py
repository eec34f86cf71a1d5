"""Batches concurrent requests to a hand-written contender."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Batcher:
    """Passes all waiting items to `work` at once, in up to `max_calls` concurrent calls."""

    def __init__(self, work: Callable[[list[Any]], Awaitable[list[Any]]], max_calls: int) -> None:
        self._work, self._max_calls = work, max_calls
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Any) -> Any:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._start_call)
        return await result

    def _start_call(self) -> None:
        if self._waiting and len(self._calls) < self._max_calls:
            batch, self._waiting = self._waiting, []
            call = asyncio.create_task(self._run_call(batch))
            self._calls.add(call)
            call.add_done_callback(self._finish)

    def _finish(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        call.result()
        self._start_call()

    async def _run_call(self, batch: list[tuple[Any, "asyncio.Future[Any]"]]) -> None:
        results = await self._work([item for item, _ in batch])
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
