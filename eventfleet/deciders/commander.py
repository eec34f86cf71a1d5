"""Commander: dispenses event numbers, puts events and saves snapshots for the Manager."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from eventfleet.states.live_state import LiveState
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.contracts import NO_HEAD, EventStore
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

MAX_TRANSACTIONS = 64

PutError = Duplicate | ServerUnavailable


class Commander:
    """The writes of one synchronous domain.

    Nobody holds an event number that is dispensed: whoever puts it first has it, by the store's
    unique index, and every other put of it is refused.
    """

    def __init__(self, store: EventStore, saver: SnapshotSaver, *, partitions: int) -> None:
        self._store, self._saver, self._partitions = store, saver, partitions
        self._transactions = asyncio.Semaphore(MAX_TRANSACTIONS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Save snapshots for the length of the block."""
        async with self._saver.running():
            yield

    def dispense(self, latest: LiveState) -> int:
        """The event number after an aggregate's latest state."""
        return latest.version + 1

    async def dispense_all(self, aggregate_ids: Sequence[str]) -> list[int]:
        """The next event number of each aggregate, without its state; one query.
        ServerUnavailable."""
        heads = await self._store.heads(aggregate_ids)
        return [heads.get(each, NO_HEAD).version + 1 for each in aggregate_ids]

    async def put(self, commands: Sequence[Sequence[EventRecord]]) -> list[PutError | None]:
        """Put the events of each command, all of them or none.

        For each: None, or Duplicate when an event number or the command's first event is stored
        already, or ServerUnavailable when it is unknown whether they are stored.
        """
        single = [events[0] for events in commands if len(events) == 1]
        several = [events for events in commands if len(events) > 1]
        if not several:
            return await self._put_each(single)
        in_transactions = asyncio.gather(*(self._put_several(events) for events in several))
        results = await asyncio.gather(self._put_each(single), in_transactions)
        of_single, of_several = map(iter, results)
        return [next(of_single if len(events) == 1 else of_several) for events in commands]

    def update_states(self, states: Iterable[LiveState]) -> None:
        """Save latest states as snapshots, behind the answers to their commands."""
        self._saver.save_later(states)

    async def _put_each(self, events: Sequence[EventRecord]) -> list[PutError | None]:
        try:
            puts = [(event, self._partition(event)) for event in events]
            return [*(await self._store.put_each(puts))] if puts else []
        except ServerUnavailable as error:
            return [error] * len(events)

    async def _put_several(self, events: Sequence[EventRecord]) -> PutError | None:
        try:
            async with self._transactions:
                await self._store.put(events, self._partition(events[0]))
        except (Duplicate, ServerUnavailable) as error:
            return error
        return None

    def _partition(self, event: EventRecord) -> int:
        return partition_of(event.aggregate_id, self._partitions)
