"""Resumes a streamed read when the server loses its cursor."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord

MAX_RESUMES = 20
MAX_PAUSE_SECONDS = 0.5

ReadAfter = Callable[[int, int | None], AsyncGenerator[EventRecord, None]]
"""Reads an aggregate's events above a version, up to a limit."""


async def resume_read(read: ReadAfter, after: int, limit: int | None) -> AsyncIterator[EventRecord]:
    """Stream events by version; where the server fails, go on from the last version read.

    ServerUnavailable: it fails before the first event of a try, or for the MAX_RESUMES-th time.
    """
    for resumes in range(MAX_RESUMES + 1):
        count = 0
        try:
            async with aclosing(read(after, limit)) as events:
                async for event in events:
                    yield event
                    after, count = event.version, count + 1
            return
        except ServerUnavailable:
            if not count or resumes == MAX_RESUMES:
                raise
        limit = None if limit is None else limit - count
        await asyncio.sleep(random.uniform(0, MAX_PAUSE_SECONDS))
