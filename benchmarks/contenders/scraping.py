"""Scrapes a contender's own page of metrics each second, where SCRAPE=1 asks for it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

INTERVAL_SECONDS = 1.0


def is_scraped() -> bool:
    """Return True where SCRAPE=1 asks for scraping."""
    return os.environ.get("SCRAPE") == "1"


@asynccontextmanager
async def scraped(serving: AbstractAsyncContextManager[str | None]) -> AsyncIterator[None]:
    """Serve a page within the block, and scrape it; without SCRAPE=1 do neither.

    RuntimeError at the end when a scrape has failed.
    """
    if not is_scraped():
        yield
        return
    async with serving as url:
        task = asyncio.create_task(_scrape(f"{url}/metrics"))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()):
                raise RuntimeError(f"a scrape has failed: {error!r}") from error


async def _scrape(url: str) -> None:
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        while True:
            async with session.get(url) as page:
                await page.read()
            await asyncio.sleep(INTERVAL_SECONDS)
