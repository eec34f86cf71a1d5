"""FeedReader: follows the changes of a collection, for the cache and for those who watch."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from eventfleet.documents.document_cache import DocumentCache
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts.documents import DocumentStore, FeedItem
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import RESUMED_READ

WORK_SECONDS, REST_SECONDS = 0.005, 0.02
"""Between rests the feed is read for so long: events that come one by one come together."""


class FeedReader:
    """Reads the store's feed in the background, once for all that wait in this process."""

    def __init__(
        self,
        collection: str,
        store: DocumentStore,
        cache: DocumentCache,
        nudge: Callable[[], None],
    ) -> None:
        self._store, self._cache, self._nudge = store, cache, nudge
        self._open = asyncio.Event()
        self._task = BackgroundTask(f"feed of {collection}", self._work)

    def start(self) -> None:
        self._task.start()

    @property
    def is_open(self) -> bool:
        """True while each stored event comes by: no cached document is older than the feed."""
        return self._open.is_set()

    async def wait_until_open(self, timeout: float) -> None:
        """Wait until the feed is open, or for `timeout` seconds; until then nothing is cached."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._open.wait()

    async def stop(self) -> None:
        await self._task.end()

    async def follow(self, cursor: str | None) -> AsyncGenerator[FeedItem, None]:
        """Stream the feed for a caller, and go on from its last item when the server fails.

        ServerUnavailable: it fails again and again without an item between.
        """
        failures = 0
        while True:
            try:
                async with self._store.feed(cursor) as items:
                    async for item in items:
                        yield item
                        cursor, failures = item.cursor, 0
                return
            except ServerUnavailable:
                failures += 1
                if cursor is None or failures == RESUMED_READ.attempts:
                    raise
            await asyncio.sleep(RESUMED_READ.pause(failures))

    async def _work(self) -> None:
        """Read from now on. What came while nobody read is unknown: nothing cached is trusted."""
        try:
            async with self._store.feed(None) as items:
                self._cache.clear()
                self._open.set()
                rested, now = 0.0, asyncio.get_running_loop().time
                async for item in items:
                    event = item.event
                    # A known version is this process's own: its writer has nudged.
                    if self._cache.note_version(event.aggregate_id, event.version):
                        self._nudge()
                    self._task.report_well()
                    if now() > rested + WORK_SECONDS:
                        await asyncio.sleep(REST_SECONDS)
                        rested = now()
        finally:
            self._open.clear()
            self._cache.clear()
