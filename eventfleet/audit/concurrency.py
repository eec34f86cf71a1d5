"""Runs a bounded number of reads at once."""

import asyncio
from collections.abc import Awaitable, Iterable

MAX_CONCURRENT_READS = 4


async def run_all(parts: Iterable[Awaitable[None]], slots: asyncio.Semaphore) -> None:
    """Await all parts, as many at a time as there are slots; the first error is raised."""

    async def bounded(part: Awaitable[None]) -> None:
        async with slots:
            await part

    try:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(bounded(part))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
