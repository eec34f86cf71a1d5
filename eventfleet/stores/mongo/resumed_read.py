"""Resumes a streamed read when the server loses its cursor."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import RESUMED_READ
from eventfleet.topics.event import EventRecord

ReadAfter = Callable[[int, int | None], AsyncGenerator[EventRecord, None]]
"""Reads an aggregate's events above a version, up to a limit."""


async def resume_read(read: ReadAfter, after: int, limit: int | None) -> AsyncIterator[EventRecord]:
    """Stream events by version; where the server fails, go on from the last version read.

    ServerUnavailable: it fails before the first event of a try, or once too often.
    """
    for failures in range(1, RESUMED_READ.attempts + 1):
        count = 0
        try:
            async with aclosing(read(after, limit)) as events:
                async for event in events:
                    yield event
                    after, count = event.version, count + 1
            return
        except ServerUnavailable:
            if not count or failures == RESUMED_READ.attempts:
                raise
        limit = None if limit is None else limit - count
        await asyncio.sleep(RESUMED_READ.pause(failures))
