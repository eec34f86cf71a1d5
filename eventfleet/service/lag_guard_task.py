"""The heartbeat of a lag guard, in the background."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.topics.errors import EventfleetError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
LOOKS = 10
LEAVE_SECONDS = 1.0


@asynccontextmanager
async def running_lag_guard(guard: LagGuard) -> AsyncIterator[None]:
    """Beat at once and then every second, sooner when awaited, for the length of the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(_beat(guard, stop), name="lag guard")
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


async def _beat(guard: LagGuard, stop: asyncio.Event) -> None:
    """What fails is tried again at the next beat: until then the guard holds nothing new."""
    well = True
    while not stop.is_set():
        try:
            await guard.beat()
            well = True
        except EventfleetError as error:
            if well:
                logger.warning("the lag guard can't see how far append is: %s", error)
            well = False
        await _pause(guard, stop)


async def _pause(guard: LagGuard, stop: asyncio.Event) -> None:
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_SECONDS)
        if guard.awaited or stop.is_set():
            return
