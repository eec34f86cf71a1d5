"""Snapshots saved behind the answers to commands and queries."""

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

BATCH = 100
WAITING = 10_000
LEAVE_SECONDS = 2.0
PAUSE = 0.1


class SnapshotSaver:
    """Saves states, one bulk after the other, so that no aggregate has two saves under way.

    Of an aggregate's states that wait, the newest wins; beyond WAITING aggregates none is taken.
    A state that can't be saved is dropped: another will come.
    """

    def __init__(
        self, domain: Domain[Any], store: SnapshotStore, clock: Clock, *, limit: int
    ) -> None:
        self._domain, self._store, self._clock, self._limit = domain, store, clock, limit
        self._waiting: dict[str, LiveState] = {}
        self._some, self._leaving = asyncio.Event(), asyncio.Event()
        self.saved = self.dropped = 0

    def soon(self, lives: Iterable[LiveState]) -> None:
        """Save these states as they are now, but for those that are saved already."""
        now = self._clock.now()
        for live in lives:
            if live.version <= live.snapshot_version:
                continue
            if len(self._waiting) >= WAITING and live.aggregate_id not in self._waiting:
                self.dropped += 1
                continue
            self._waiting[live.aggregate_id] = live.copy()
            live.snapshot_taken(now)
        if self._waiting:
            self._some.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For the length of the block; what waits at its end gets LEAVE_SECONDS more."""
        task = asyncio.create_task(self._work(), name="saving snapshots")
        try:
            yield
        finally:
            self._leaving.set()
            self._some.set()
            await asyncio.wait({task}, timeout=LEAVE_SECONDS)
            task.cancel()
            await asyncio.wait({task}, timeout=LEAVE_SECONDS)

    async def _work(self) -> None:
        while self._waiting or not self._leaving.is_set():
            if not self._leaving.is_set():
                await self._some.wait()
            ids = list(self._waiting)[:BATCH]
            await self._save([self._waiting.pop(each) for each in ids])
            if not self._waiting:
                self._some.clear()
                await self._pause()

    async def _pause(self) -> None:
        """So that of an aggregate that changes all the time not each state is saved."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), PAUSE)

    async def _save(self, lives: list[LiveState]) -> None:
        now = self._clock.now()
        shots = [
            shot for live in lives if (shot := take_snapshot(self._domain, live, now, self._limit))
        ]
        self.dropped += len(lives) - len(shots)
        try:
            if shots:
                await self._store.save(shots)
            self.saved += len(shots)
        except ServerUnavailable as error:
            self.dropped += len(shots)
            logger.warning("%d snapshots of %s not saved: %s", len(shots), self._domain.name, error)
