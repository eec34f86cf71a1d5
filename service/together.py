"""What many callers ask for at the same time is done together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from stores.errors import Unavailable

MOST = 100
AT_ONCE = 2
YOUNG = 0.02

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Does `work` on up to MOST items in one go: what comes meanwhile goes with the next, for one
    large piece of work costs less than two small ones. A second goes beside one that is under way
    for YOUNG seconds, or where it has MOST items; there are never more than AT_ONCE.

    Work under way goes on when a caller stops waiting for it.
    """

    def __init__(self, work: Callable[[list[T]], Awaitable[Sequence[R]]]) -> None:
        self._work = work
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._young: asyncio.Task[None] | None = None

    async def ask(self, item: T) -> R:
        """The answer for one item; what the work raises is raised for each of its items."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._waiting) in (1, MOST):
            asyncio.get_running_loop().call_soon(self._start)
        return await answer

    async def close(self) -> None:
        """Give up what is under way, and what waits: Unavailable for who asked."""
        while self._waiting:
            _fail(self._waiting.popleft()[1], Unavailable("closed before it was done"))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    def _start(self) -> None:
        full = len(self._waiting) >= MOST
        free = len(self._tasks) < AT_ONCE and (full or self._young not in self._tasks)
        if self._waiting and free:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            task = asyncio.create_task(self._do([each for each in batch if not each[1].done()]))
            self._tasks.add(task)
            self._young = task
            asyncio.get_running_loop().call_later(YOUNG, self._aged, task)
            task.add_done_callback(self._done)

    def _aged(self, task: "asyncio.Task[None]") -> None:
        if self._young is task:
            self._young = None
            self._start()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._start()

    async def _do(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        failure: Exception = Unavailable("closed before it was done")
        try:
            answers = await self._work([item for item, _ in batch]) if batch else []
            for (_, answer), result in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(result)
        except Exception as error:
            failure = error
        finally:
            for _, answer in batch:
                _fail(answer, failure)


def _fail(answer: "asyncio.Future[R]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
