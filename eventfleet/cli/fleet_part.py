"""A part of a local fleet that runs in this process, as a task."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eventfleet.cli.managed_process import ProgramFailed, tail
from eventfleet.runtime.process_stop import STOP_SECONDS, StopSignal
from eventfleet.topics.errors import EventfleetError

Work = Callable[[StopSignal], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)


class FleetPart:
    """Work that runs until it is stopped. What it logs is in the `log` of all parts."""

    def __init__(self, name: str, log: Path, work: Work) -> None:
        self.name, self.log = name, log
        self._stop = StopSignal()
        self._task = asyncio.create_task(work(self._stop), name=name)
        self._task.add_done_callback(self._log_end)

    async def wait(self) -> int:
        """Wait until the work ends by itself; the status is 0 where nothing failed."""
        await asyncio.wait({self._task})
        return int(self._error is not None)

    def tail(self) -> str:
        """The last lines of the log."""
        return tail(self.log)

    def failure(self, what: str) -> ProgramFailed:
        """The error to raise, with the one that ended the work."""
        reason = f": {self._error}" if self._error else ""
        return ProgramFailed(f"{self.name} {what}{reason}")

    def request_end(self) -> None:
        """Let the work end, without waiting for it."""
        self._stop.set()
        if not self._stop.heeded:
            self._task.cancel()

    async def close(self) -> None:
        """End the work."""
        self.request_end()
        _, late = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if late:
            self._task.cancel()

    @property
    def _error(self) -> BaseException | None:
        ended = self._task.done() and not self._task.cancelled()
        return self._task.exception() if ended else None

    def _log_end(self, _: asyncio.Task[None]) -> None:
        if error := self._error:
            known = isinstance(error, EventfleetError)
            logger.error("%s ended: %s", self.name, error, exc_info=None if known else error)


@asynccontextmanager
async def running_part(name: str, log: Path, work: Work) -> AsyncIterator[FleetPart]:
    """Run a part until the block ends."""
    part = FleetPart(name, log, work)
    try:
        yield part
    finally:
        await asyncio.shield(part.close())
