"""Runs parts side by side, and beside a block."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

Part = Coroutine[Any, Any, None]


async def run_all(parts: Sequence[Part]) -> None:
    """Run all to their ends; then raise the first error."""
    async with beside() as start:
        for part in parts:
            start(part)


@asynccontextmanager
async def beside() -> AsyncIterator[Callable[[Part], None]]:
    """Run parts beside a block, whose end awaits theirs and raises the first error.

    An error of the block itself cancels them.
    """
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda part: tasks.append(asyncio.create_task(part))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    for result in await asyncio.gather(*tasks, return_exceptions=True) if tasks else ():
        if result:
            raise result
