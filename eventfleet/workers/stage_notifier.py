"""The one who tells those who wait how far their events have come, behind the roles' backs."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import Counter

from eventfleet.roles.notices import AwaitedEvent, notices_of
from eventfleet.stores.contracts import Notice, Notices, Stage
from eventfleet.stores.errors import StoreError

ROOM = 10_000
PAUSE = 1.0
LEAVE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class BackgroundNotifier:
    """Best effort: with more than ROOM notices untold, or when they can't be told, they are lost.

    What is told meanwhile goes out together. Nothing connects before the first notice.
    """

    def __init__(self, notices: Notices, told: Counter, lost: Counter) -> None:
        self._notices, self._told, self._lost = notices, told, lost
        self._pending: dict[str, list[Notice]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._well = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BackgroundNotifier"]:
        """At the block's end what is untold has LEAVE_SECONDS."""
        try:
            yield self
        finally:
            if self._task:
                await asyncio.wait({self._task}, timeout=LEAVE_SECONDS)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=LEAVE_SECONDS)
            await self._notices.close()

    def notify(self, stage: Stage, events: Sequence[AwaitedEvent]) -> None:
        """As of eventfleet.roles.notices.Herald; within an event loop."""
        for channel, notices in notices_of(stage, events).items():
            room = max(0, ROOM - self._count)
            self._pending.setdefault(channel, []).extend(notices[:room])
            self._count += len(notices[:room])
            self._lost.inc(len(notices[room:]))
        if self._count and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._publish(), name="stage notifier")

    async def _publish(self) -> None:
        while self._count:
            told, count = self._pending, self._count
            self._pending, self._count = {}, 0
            try:
                await self._notices.publish(told)
            except StoreError as error:
                self._lost.inc(count)
                self._complain(error)
                await asyncio.sleep(PAUSE * random.uniform(0.5, 1))
            else:
                self._told.inc(count)
                self._well = True

    def _complain(self, error: StoreError) -> None:
        """Once, until it is well again."""
        if self._well:
            logger.warning("those who wait for events are not told of them: %s", error)
        self._well = False
