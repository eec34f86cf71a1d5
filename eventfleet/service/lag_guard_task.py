"""The lag guard's background task: it keeps the guard up to date."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.topics.errors import EventfleetError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
MAX_LOOKS = 10
LEAVE_SECONDS = 1.0


@asynccontextmanager
async def running_lag_guard(guard: LagGuard) -> AsyncIterator[None]:
    """Update the guard at once and then every second, sooner when wanted, during the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(_keep_updated(guard, stop), name="lag guard")
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=LEAVE_SECONDS)
        # A call under way may end in its own way and lose the cancellation.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
        if not task.cancelled():
            task.result()


async def _keep_updated(guard: LagGuard, stop: asyncio.Event) -> None:
    """An update that fails is tried again a second later: until then nothing new is trusted."""
    well = True
    while not stop.is_set():
        try:
            await guard.update()
            well = True
        except EventfleetError as error:
            if well:
                logger.warning("the lag guard can't read how far append has come: %s", error)
            well = False
        await _pause(guard, stop)


async def _pause(guard: LagGuard, stop: asyncio.Event) -> None:
    for _ in range(MAX_LOOKS):
        await asyncio.sleep(LOOK_SECONDS)
        if guard.update_wanted or stop.is_set():
            return
