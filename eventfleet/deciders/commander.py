"""Commander: puts the events of synchronous commands, and lets the stream know."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from eventfleet.deciders.pending_command import Destination, destination_of
from eventfleet.stores.contracts import Clock, EventStore, LogWriter
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord

LEAST = 0.05
TRANSACTIONS = 64

Refusal = Duplicate | ServerUnavailable


class Commander:
    """Event numbers are dispensed by the store: the put of a version that is taken is refused."""

    def __init__(
        self, store: EventStore, writer: LogWriter, clock: Clock, *, partitions: int
    ) -> None:
        self._store, self._writer = store, writer
        self._clock, self._partitions = clock, partitions
        self._room = asyncio.Semaphore(TRANSACTIONS)
        self._produces: set[asyncio.Task[bool]] = set()

    def destination(self, event: EventRecord) -> Destination:
        """Where its nudge goes."""
        return destination_of(event, self._partitions)

    async def put(self, commands: Sequence[Sequence[EventRecord]]) -> list[Refusal | None]:
        """The events of each, all of them or none: None, or Duplicate when a version, or the
        command's first event, is there already. Unavailable when that is not known."""
        single = [events[0] for events in commands if len(events) == 1]
        several = [events for events in commands if len(events) > 1]
        if not several:
            return await self._put_each(single)
        in_transactions = asyncio.gather(*(self._put_several(events) for events in several))
        ends = await asyncio.gather(self._put_each(single), in_transactions)
        of_single, of_several = map(iter, ends)
        return [next(of_single if len(events) == 1 else of_several) for events in commands]

    async def publish(self, events: Sequence[EventRecord], deadline: datetime) -> bool:
        """Produce stored events, so that append places each and those below it; whether that is
        done by the deadline."""
        left = (deadline - self._clock.now()).total_seconds()
        task = asyncio.create_task(self._produce([self._record(event) for event in events]))
        self._produces.add(task)
        task.add_done_callback(self._produces.discard)
        done, _ = await asyncio.wait({task}, timeout=max(left, LEAST))
        return bool(done) and task.result()

    async def close(self) -> None:
        """What is not acknowledged yet is given up."""
        for task in self._produces:
            task.cancel()
        if self._produces:
            await asyncio.wait(self._produces, timeout=1)

    async def _produce(self, records: list[ProducerRecord]) -> bool:
        """Goes on when nobody waits for it any more: a producer that is interrupted is dropped."""
        try:
            await self._writer.produce(records)
        except ServerUnavailable:
            return False
        return True

    async def _put_each(self, events: Sequence[EventRecord]) -> list[Refusal | None]:
        try:
            puts = [(event, self.destination(event).partition) for event in events]
            return [*(await self._store.put_each(puts))] if puts else []
        except ServerUnavailable as error:
            return [error] * len(events)

    async def _put_several(self, events: Sequence[EventRecord]) -> Refusal | None:
        try:
            async with self._room:
                await self._store.put(events, self.destination(events[0]).partition)
        except (Duplicate, ServerUnavailable) as error:
            return error
        return None

    def _record(self, event: EventRecord) -> ProducerRecord:
        topic, partition, _ = self.destination(event)
        return ProducerRecord(
            topic, event.aggregate_id.encode(), encode(event), partition, EVENT_HEADERS
        )
