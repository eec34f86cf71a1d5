"""SnapshotSaver: makes snapshots of states and saves them, at once or behind an answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.stores.contracts import Clock, SnapshotStore
from eventfleet.stores.errors import ServerUnavailable

logger = logging.getLogger(__name__)

MAX_BATCH_SNAPSHOTS = 100
MAX_PENDING_STATES = 10_000
DRAIN_SECONDS = 2.0
PAUSE_SECONDS = 0.1


class SnapshotSaver:
    """Saves the states of one domain's aggregates as snapshots.

    Behind the answers it saves one bulk after the other, so that no aggregate has two saves under
    way. It keeps only the newest pending state per aggregate, of up to MAX_PENDING_STATES
    aggregates. A state that can't be saved is dropped: another will come. `saved` and `dropped`
    count what was to be saved behind the answers.
    """

    def __init__(
        self, domain: Domain[Any], store: SnapshotStore, clock: Clock, *, limit: int
    ) -> None:
        """A state of more than `limit` bytes as JSON is not saved."""
        self._domain, self._store, self._clock, self._limit = domain, store, clock, limit
        self._pending: dict[str, LiveState] = {}
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self.saved = self.dropped = 0

    async def save(self, states: Iterable[LiveState]) -> int:
        """Save those that are newer than their snapshots, in one bulk. Returns how many were; a
        state that no store can keep was not."""
        now = self._clock.now()
        newer = [live for live in states if live.version > live.snapshot_version]
        taken = [take_snapshot(self._domain, live, now, self._limit) for live in newer]
        if snapshots := [snapshot for snapshot in taken if snapshot]:
            await self._store.save(snapshots)
        return len(snapshots)

    def save_later(self, states: Iterable[LiveState]) -> None:
        """Save these states as they are now, except those that are saved already."""
        now = self._clock.now()
        for live in states:
            if live.version <= live.snapshot_version:
                continue
            if len(self._pending) >= MAX_PENDING_STATES and live.aggregate_id not in self._pending:
                self.dropped += 1
                continue
            self._pending[live.aggregate_id] = live.copy()
            live.record_snapshot(now)
        if self._pending:
            self._wake.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Save behind the answers for the length of the block; what is pending at its end gets
        DRAIN_SECONDS more."""
        task = asyncio.create_task(self._run(), name="snapshot saver")
        try:
            yield
        finally:
            self._closing.set()
            self._wake.set()
            await asyncio.wait({task}, timeout=DRAIN_SECONDS)
            task.cancel()
            await asyncio.wait({task}, timeout=DRAIN_SECONDS)

    async def _run(self) -> None:
        while self._pending or not self._closing.is_set():
            if not self._closing.is_set():
                await self._wake.wait()
            batch = list(self._pending)[:MAX_BATCH_SNAPSHOTS]
            await self._save_batch([self._pending.pop(each) for each in batch])
            if not self._pending:
                self._wake.clear()
                await self._pause()

    async def _pause(self) -> None:
        """Not every state is saved of an aggregate that changes all the time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), PAUSE_SECONDS)

    async def _save_batch(self, states: list[LiveState]) -> None:
        saved = 0
        try:
            saved = await self.save(states)
        except ServerUnavailable as error:
            name = self._domain.name
            logger.warning("%s: %d snapshots were not saved: %s", name, len(states), error)
        self.saved += saved
        self.dropped += len(states) - saved
