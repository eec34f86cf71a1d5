"""The lag guard's background task: it keeps the guard up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.stores.background_task import BackgroundTask

LOOK_SECONDS = 0.1
MAX_LOOKS = 10
LEAVE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 1.0


@asynccontextmanager
async def running_lag_guard(guard: LagGuard, domain: str) -> AsyncIterator[BackgroundTask]:
    """Update the guard at once and then every second, sooner when wanted, during the block.

    After an update that failed nothing new is trusted until one succeeds.
    """
    stop = asyncio.Event()

    async def keep_updated() -> None:
        while not stop.is_set():
            await guard.update()
            task.report_well()
            await _pause(guard, stop)

    task = BackgroundTask(
        f"the lag guard of {domain}",
        keep_updated,
        essential=True,
        longest_pause=LONGEST_PAUSE_SECONDS,
    )
    task.start()
    try:
        yield task
    finally:
        stop.set()
        await task.end(LEAVE_SECONDS)


async def _pause(guard: LagGuard, stop: asyncio.Event) -> None:
    for _ in range(MAX_LOOKS):
        await asyncio.sleep(LOOK_SECONDS)
        if guard.update_wanted or stop.is_set():
            return
