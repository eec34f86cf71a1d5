"""Scraping a contender's metrics during a benchmark."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientResponseError, web

from benchmarks.contenders import scraping
from benchmarks.contenders.scraping import scraped


class Page:
    """A page of metrics that counts its scrapes."""

    def __init__(self, status: int = 200) -> None:
        self.scraped, self.served = asyncio.Event(), False
        self._status = status

    async def _answer(self, request: web.Request) -> web.Response:
        self.scraped.set()
        return web.Response(status=self._status)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str | None]:
        self.served = True
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def test_a_page_is_scraped_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRAPE", "1")
    page = Page()
    async with asyncio.timeout(20), scraped(page.serving()):
        await page.scraped.wait()


async def test_otherwise_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCRAPE", raising=False)
    page = Page()
    async with scraped(page.serving()):
        assert not page.served


async def test_a_page_that_fails_is_no_scrape() -> None:
    async with Page(status=500).serving() as url:
        with pytest.raises(ClientResponseError):
            await scraping._scrape(f"{url}/metrics")


async def test_a_scrape_that_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(url: str) -> None:
        raise LookupError(url)

    async def run() -> None:
        async with scraped(Page().serving()):
            await asyncio.sleep(0)

    monkeypatch.setenv("SCRAPE", "1")
    monkeypatch.setattr(scraping, "_scrape", fail)
    with pytest.raises(RuntimeError, match="a scrape has failed"):
        await run()
