"""What many ask a hand-written side for at the same time, done together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Shared:
    """Does together what waits, in up to `trips` calls of `work` at a time."""

    def __init__(self, work: Callable[[list[Any]], Awaitable[list[Any]]], trips: int) -> None:
        self._work, self._most = work, trips
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._trips: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._start)
        return await answer

    def _start(self) -> None:
        if self._waiting and len(self._trips) < self._most:
            going, self._waiting = self._waiting, []
            trip = asyncio.create_task(self._go(going))
            self._trips.add(trip)
            trip.add_done_callback(self._came)

    def _came(self, trip: "asyncio.Task[None]") -> None:
        self._trips.discard(trip)
        trip.result()
        self._start()

    async def _go(self, going: list[tuple[Any, "asyncio.Future[Any]"]]) -> None:
        answers = await self._work([item for item, _ in going])
        for (_, waiter), answer in zip(going, answers, strict=True):
            waiter.set_result(answer)
