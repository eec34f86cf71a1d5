"""Publishes stage notices in the background, best effort."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import Counter

from eventfleet.roles.notices import AwaitedEvent, notices_of
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import Disposition, Notice, Notices, Stage

MAX_PENDING_NOTICES = 10_000
CLOSE_TIMEOUT_SECONDS = 1.0


class BackgroundNotifier:
    """A StageNotifier whose notices are published by a task of its own.

    Notices beyond MAX_PENDING_NOTICES, and those whose publishing fails, are lost and counted as
    such. Notices that arrive during a publish go out together. The first one opens the connection.
    """

    def __init__(self, notices: Notices, published: Counter, lost: Counter) -> None:
        self._notices, self._published, self._lost = notices, published, lost
        self._pending: dict[str, list[Notice]] = {}
        self._count = 0
        self._task = BackgroundTask("publishing stage notices", self._publish)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BackgroundNotifier"]:
        """Publish until the block's end, which allows pending notices CLOSE_TIMEOUT_SECONDS."""
        try:
            yield self
        finally:
            await self._task.end(CLOSE_TIMEOUT_SECONDS)
            await self._notices.close()

    def notify(
        self,
        stage: Stage,
        events: Sequence[AwaitedEvent],
        disposition: Disposition | None = None,
    ) -> None:
        """Queue the notices of these events. To be called within an event loop."""
        for channel, notices in notices_of(stage, events, disposition).items():
            room = max(0, MAX_PENDING_NOTICES - self._count)
            self._pending.setdefault(channel, []).extend(notices[:room])
            self._count += len(notices[:room])
            self._lost.inc(len(notices[room:]))
        if self._count:
            self._task.start()

    async def _publish(self) -> None:
        while self._count:
            notices, count = self._pending, self._count
            self._pending, self._count = {}, 0
            try:
                await self._notices.publish(notices)
            except Exception:
                self._lost.inc(count)
                raise
            self._published.inc(count)
            self._task.report_well()
