"""SnapshotSaver: makes snapshots of states and saves them behind the answers."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import Clock, Snapshot, SnapshotStore

MAX_BATCH_STATES = 100
BATCH_TIME = timedelta(milliseconds=1)
MAX_PENDING_STATES = 10_000
MAX_PENDING_COPIES = 1_000
DRAIN_SECONDS = 2.0
PAUSE_SECONDS = 0.1
PAUSE_RATIO = 100
"""A pause is so many times as long as the save before it."""

LONGEST_PAUSE_SECONDS = 5.0


class SnapshotSaver:
    """Saves the states of one domain's aggregates as snapshots, behind the answers.

    While it is `running`, it saves one bulk after the other, so that no aggregate has two saves
    under way. It keeps only the newest pending state per aggregate, of up to MAX_PENDING_STATES
    aggregates, or MAX_PENDING_COPIES where each takes memory of its own. A state that can't be
    saved, for whatever reason, is dropped: another will come. `saved` and `dropped` count the
    states.
    """

    def __init__(
        self,
        domain: Domain[Any],
        store: SnapshotStore,
        clock: Clock,
        *,
        limit: int,
        name: str = "snapshot saver",
    ) -> None:
        """A state of more than `limit` bytes as JSON is not saved. `name` is that of the task."""
        self._domain, self._store, self._clock, self._limit = domain, store, clock, limit
        self._pending: dict[str, LiveState | Snapshot] = {}
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._task = BackgroundTask(f"{name} of {domain.name}", self._run)
        self.saved = self.dropped = 0

    def save_later(self, states: Iterable[LiveState]) -> None:
        """Save these states as they are now, except those that are saved already.

        The states' own values must not change any more.
        """
        now = self._clock.now()
        for live in states:
            if live.version > live.snapshot_version and self._put(live.copy(), MAX_PENDING_STATES):
                live.record_snapshot(now)

    def save_copy_later(self, live: LiveState) -> None:
        """Save a state, whose value is about to be handed out, as it is now."""
        if live.version <= live.snapshot_version:
            return
        snapshot = take_snapshot(self._domain, live, self._clock.now(), self._limit)
        if snapshot:
            self._put(snapshot, MAX_PENDING_COPIES)

    def _put(self, state: LiveState | Snapshot, most: int) -> bool:
        """Note a pending state, unless there are too many, or a newer one is noted."""
        noted = self._pending.get(state.aggregate_id)
        if noted is None and len(self._pending) >= most:
            self.dropped += 1
            return False
        if noted is None or noted.version < state.version:
            self._pending[state.aggregate_id] = state
        self._wake.set()
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Save behind the answers for the length of the block; what is pending at its end gets
        DRAIN_SECONDS more."""
        self._closing.clear()
        async with self._task.running(DRAIN_SECONDS):
            try:
                yield
            finally:
                self._closing.set()
                self._wake.set()

    async def _run(self) -> None:
        while self._pending or not self._closing.is_set():
            if not self._closing.is_set():
                await self._wake.wait()
            begun = self._clock.steady()
            count, snapshots = self._take_batch()
            await self._save(count, snapshots)
            if not self._pending:
                self._wake.clear()
            if count < MAX_BATCH_STATES:
                await self._pause((self._clock.steady() - begun) * PAUSE_RATIO)

    def _take_batch(self) -> tuple[int, list[Snapshot]]:
        """Take pending states, for BATCH_TIME: other tasks wait meanwhile. Returns how many were
        taken, and the snapshots of those that a store can keep."""
        now, ends = self._clock.now(), self._clock.steady() + BATCH_TIME
        taken: list[Snapshot | None] = []
        for aggregate_id in [*self._pending][:MAX_BATCH_STATES]:
            state = self._pending.pop(aggregate_id)
            if isinstance(state, LiveState):
                taken.append(take_snapshot(self._domain, state, now, self._limit))
            else:
                taken.append(state)
            if self._clock.steady() > ends:
                break
        return len(taken), [snapshot for snapshot in taken if snapshot]

    async def _pause(self, wanted: timedelta) -> None:
        """Not every state is saved of an aggregate that changes all the time, and the larger the
        states are, the fewer."""
        with suppress(TimeoutError):
            pause = min(max(wanted.total_seconds(), PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            await asyncio.wait_for(self._closing.wait(), pause)

    async def _save(self, count: int, snapshots: Sequence[Snapshot]) -> None:
        """Save the snapshots of `count` states in one bulk; what fails is dropped."""
        saved = 0
        try:
            if snapshots:
                await self._store.save(snapshots)
                saved = len(snapshots)
                self._task.report_well()
        finally:
            self.saved += saved
            self.dropped += count - saved
