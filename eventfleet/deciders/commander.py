"""Commander: dispenses event numbers, puts events and saves snapshots for the Manager."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from eventfleet.states.live_state import LiveState
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.contracts import NO_HEAD, EventStore
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

MAX_TRANSACTIONS = 64


class TooLate(Struct, frozen=True):
    """Nothing is put: the command's caller has been answered."""


PutError = Duplicate | ServerUnavailable | TooLate

IsLate = Callable[[int], bool]
"""Says of a command, by its index, whether its deadline has passed."""


def never(index: int) -> bool:
    return False


class Commander:
    """The writes of one synchronous domain.

    Nobody holds an event number that is dispensed: whoever puts it first has it, by the store's
    unique index, and every other put of it is refused.
    """

    def __init__(self, store: EventStore, saver: SnapshotSaver, *, partitions: int) -> None:
        self._store, self._saver, self._partitions = store, saver, partitions
        self.update_states = saver.save_later
        """Saves latest states as snapshots, behind the answers to their commands."""
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

    async def put(
        self, commands: Sequence[Sequence[EventRecord]], is_late: IsLate = never
    ) -> list[PutError | None]:
        """Put the events of each command, all of them or none.

        For each: None, or Duplicate when an event number or the command's first event is stored
        already, or ServerUnavailable when it is unknown whether they are stored, or TooLate when
        the command was late just before its write.
        """
        single = [(index, events[0]) for index, events in enumerate(commands) if len(events) == 1]
        several = [(index, events) for index, events in enumerate(commands) if len(events) > 1]
        if not several:
            return await self._put_each(single, is_late)
        in_transactions = asyncio.gather(*(self._put_several(*each, is_late) for each in several))
        results = await asyncio.gather(self._put_each(single, is_late), in_transactions)
        of_single, of_several = map(iter, results)
        return [next(of_single if len(events) == 1 else of_several) for events in commands]

    async def _put_each(
        self, events: Sequence[tuple[int, EventRecord]], is_late: IsLate
    ) -> list[PutError | None]:
        """Put the only events of commands, which are given with the commands' indexes."""
        errors: dict[int, PutError | None] = {i: TooLate() for i, _ in events if is_late(i)}
        in_time = [(index, event) for index, event in events if index not in errors]
        try:
            puts = [(e, partition_of(e.aggregate_id, self._partitions)) for _, e in in_time]
            found: list[Duplicate | None] = await self._store.put_each(puts) if puts else []
            errors.update(zip((index for index, _ in in_time), found, strict=True))
        except ServerUnavailable as error:
            errors.update((index, error) for index, _ in in_time)
        return [errors[index] for index, _ in events]

    async def _put_several(
        self, index: int, events: Sequence[EventRecord], is_late: IsLate
    ) -> PutError | None:
        try:
            async with self._transactions:
                if is_late(index):
                    return TooLate()
                partition = partition_of(events[0].aggregate_id, self._partitions)
                await self._store.put(events, partition)
        except (Duplicate, ServerUnavailable) as error:
            return error
        return None
