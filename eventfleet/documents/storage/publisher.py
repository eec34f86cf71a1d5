"""Publisher: projects and publishes the changes that are pending, under a lease."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from eventfleet.documents.event.bus import EventBus
from eventfleet.documents.event.mapper import EventMapper, published_events
from eventfleet.documents.storage.change import to_change
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts.documents import DocumentStore
from eventfleet.stores.errors import StoreError

BATCH_EVENTS = 500
LEASE_SECONDS = 5.0
POLL_SECONDS = 0.25
LEFT_BEHIND_SECONDS = 2.0
"""How long an event without a bus may be pending before its writer is taken for dead."""

Repair = Callable[[Mapping[str, int]], Awaitable[None]]
"""Projects documents, by the text of their ids, up to these versions at least."""


class Publisher:
    """Publishes a collection's pending changes: each document's in version order, at least once.

    One process of many holds the lease. Should two work at the same time, subscribers see some
    events twice, each document's first occurrences still in order: what a publisher finds settled
    was published, and what it finds pending it publishes itself before anything behind it.
    """

    def __init__(
        self,
        collection: str,
        store: DocumentStore,
        mapper: EventMapper,
        bus: EventBus | None,
        repair: Repair,
        logger: logging.Logger,
    ) -> None:
        self._collection, self._store, self._mapper = collection, store, mapper
        self._bus, self._repair, self._logger = bus, repair, logger
        self._owner = uuid4().hex
        self._lease = f"{collection}.{'publisher' if bus else 'projector'}"
        self._nudged = asyncio.Event()
        self._task = BackgroundTask(f"publisher of {collection}", self._work, longest_pause=2.0)

    def start(self) -> None:
        self._task.start()

    def nudge(self) -> None:
        """Look at once for events to publish."""
        if self._bus is not None:
            self._nudged.set()

    async def stop(self) -> None:
        await self._task.end()
        try:
            await self._store.release_lease(self._lease, self._owner)
        except StoreError as error:
            self._logger.warning("%s is not given up, and expires: %s", self._lease, error)

    async def _work(self) -> None:
        while True:
            if await self._store.hold_lease(self._lease, self._owner, LEASE_SECONDS):
                while await self._publish_batch() == BATCH_EVENTS:
                    await self._store.hold_lease(self._lease, self._owner, LEASE_SECONDS)
            self._task.report_well()
            await self._pause()

    async def _pause(self) -> None:
        self._nudged.clear()
        try:
            async with asyncio.timeout(POLL_SECONDS if self._bus else LEFT_BEHIND_SECONDS):
                await self._nudged.wait()
        except TimeoutError:
            pass

    async def _publish_batch(self) -> int:
        events = await self._store.pending(BATCH_EVENTS, to_publish=self._bus is not None)
        if self._bus is None:
            left_behind = datetime.now(UTC) - timedelta(seconds=LEFT_BEHIND_SECONDS)
            events = [event for event in events if event.time < left_behind]
        if not events:
            return 0
        if self._bus is not None:
            await self._bus.publish(
                [
                    published
                    for event in events
                    for published in published_events(
                        self._mapper, self._collection, to_change(event)
                    )
                ]
            )
        await self._repair({event.aggregate_id: event.version for event in events})
        await self._store.settle([event.key for event in events])
        return len(events)
