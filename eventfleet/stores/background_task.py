"""BackgroundTask: work beside the requests and chunks that is begun again when it fails."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from eventfleet.stores.retry import BACKGROUND
from eventfleet.topics.errors import EventfleetError

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 0.1

_running: set["BackgroundTask"] = set()


class BackgroundTask:
    """Runs some work until it ends by itself or is ended; after a failure it is begun again.

    `failures` counts them all. Until the work reports that it is well, `problem` is the reason of
    the last one, and `failing_since` the time of the first; they are in the metrics and readiness
    of the process. Without an `essential` task the process is not ready.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        essential: bool = False,
    ) -> None:
        self.name, self.essential = name, essential
        self.failures = 0
        self.problem: str | None = None
        self.failing_since: datetime | None = None
        self._work, self._failures_in_a_row = work, 0
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the work, unless it is under way."""
        if self._task is None or self._task.done():
            self._ending = False
            self._task = asyncio.create_task(self._run(), name=self.name)
            _running.add(self)

    async def end(self, grace: float = 0.0) -> None:
        """Leave the work `grace` seconds to end by itself, then cancel it."""
        self._ending = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)
            await cancel(self._task)
        _running.discard(self)

    @asynccontextmanager
    async def running(self, grace: float = 0.0) -> AsyncIterator[None]:
        """Do the work for the length of the block; see `end`."""
        self.start()
        try:
            yield
        finally:
            await self.end(grace)

    def report_well(self) -> None:
        """Note that the work does what it should."""
        if self.problem is not None:
            logger.warning("%s is well again", self.name)
        self.problem = self.failing_since = None
        self._failures_in_a_row = 0

    def report_failure(self, error: BaseException) -> None:
        """Count a failure, and log it unless the one before had the same reason."""
        problem = f"{self.name}: {type(error).__name__}: {error}"
        if problem != self.problem:
            unexpected = None if isinstance(error, EventfleetError) else error
            logger.warning("%s; it is tried again", problem, exc_info=unexpected)
        self.failures += 1
        self._failures_in_a_row += 1
        self.problem = problem
        self.failing_since = self.failing_since or datetime.now(UTC)

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
                if not self._ending:
                    self.report_well()
                return
            except Exception as error:
                self.report_failure(error)
            except asyncio.CancelledError as error:
                if self._is_cancelled():
                    raise
                self.report_failure(error)
            if self._ending:
                return
            await asyncio.sleep(BACKGROUND.pause(self._failures_in_a_row))

    def _is_cancelled(self) -> bool:
        """Check that the cancellation is ours, and not that of a future which the work awaits."""
        return self._task is not None and self._task.cancelling() > 0


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: a call that it awaits may lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)


def background_tasks() -> list[BackgroundTask]:
    """The tasks of this process that were started and not ended, by name."""
    return sorted(_running, key=lambda task: task.name)
