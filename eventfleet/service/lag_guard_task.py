"""The lag guard's background task: it keeps the guard up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.stores.background_task import BackgroundTask

LEAST_PAUSE_SECONDS = 0.1
LEAVE_SECONDS = 1.0


@asynccontextmanager
async def running_lag_guard(guard: LagGuard, domain: str) -> AsyncIterator[BackgroundTask]:
    """Update the guard at once and then as often as it says, sooner when wanted, during the block.

    After an update that failed nothing new is trusted until one succeeds.
    """
    stopped, wanted = False, asyncio.Event()
    guard.want_update = wanted.set

    async def keep_updated() -> None:
        while not stopped:
            wanted.clear()
            await guard.update()
            task.report_well()
            await asyncio.sleep(LEAST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(guard.update_seconds - LEAST_PAUSE_SECONDS):
                    await wanted.wait()

    task = BackgroundTask(f"the lag guard of {domain}", keep_updated, essential=True)
    async with task.running(LEAVE_SECONDS):
        try:
            yield task
        finally:
            stopped = True
            wanted.set()
