"""Publishes stage notices in the background, best effort."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import Counter

from eventfleet.roles.notices import AwaitedEvent, notices_of
from eventfleet.stores.contracts import Notice, Notices, Stage
from eventfleet.stores.errors import StoreError

MAX_PENDING_NOTICES = 10_000
RETRY_PAUSE_SECONDS = 1.0
CLOSE_TIMEOUT_SECONDS = 1.0

logger = logging.getLogger(__name__)


class BackgroundNotifier:
    """A StageNotifier whose notices are published by a task of its own.

    Notices beyond MAX_PENDING_NOTICES, and those whose publishing fails, are lost and counted as
    such. Notices that arrive during a publish go out together. The first one opens the connection.
    """

    def __init__(self, notices: Notices, published: Counter, lost: Counter) -> None:
        self._notices, self._published, self._lost = notices, published, lost
        self._pending: dict[str, list[Notice]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._healthy = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BackgroundNotifier"]:
        """Publish until the block's end, which allows pending notices CLOSE_TIMEOUT_SECONDS."""
        try:
            yield self
        finally:
            if self._task:
                await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_SECONDS)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_SECONDS)
            await self._notices.close()

    def notify(self, stage: Stage, events: Sequence[AwaitedEvent]) -> None:
        """Queue the notices of these events. To be called within an event loop."""
        for channel, notices in notices_of(stage, events).items():
            room = max(0, MAX_PENDING_NOTICES - self._count)
            self._pending.setdefault(channel, []).extend(notices[:room])
            self._count += len(notices[:room])
            self._lost.inc(len(notices[room:]))
        if self._count and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._publish(), name="stage notifier")

    async def _publish(self) -> None:
        while self._count:
            notices, count = self._pending, self._count
            self._pending, self._count = {}, 0
            try:
                await self._notices.publish(notices)
            except StoreError as error:
                self._lost.inc(count)
                self._warn_once(error)
                await asyncio.sleep(RETRY_PAUSE_SECONDS * random.uniform(0.5, 1))
            else:
                self._published.inc(count)
                self._healthy = True

    def _warn_once(self, error: StoreError) -> None:
        """Warn at the first failure after a success."""
        if self._healthy:
            logger.warning(
                "stage notices are not published: %s",
                error,
            )
        self._healthy = False
