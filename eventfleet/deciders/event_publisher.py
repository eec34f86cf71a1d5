"""EventPublisher: produces the stored events of synchronous commands to `<domain>.events`."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from eventfleet.stores.contracts import Clock, LogWriter
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import Destination, destination_of
from eventfleet.topics.record import ProducerRecord

MIN_WAIT_SECONDS = 0.05
CLOSE_SECONDS = 1.0


class EventPublisher:
    """The way of a Manager's events to the message stream.

    The append role assigns positions to each produced event and to the aggregate's events before
    it. Events that the stream did not take wait for the sweep of that role.
    """

    def __init__(self, writer: LogWriter, clock: Clock, *, partitions: int) -> None:
        self._writer, self._clock, self._partitions = writer, clock, partitions
        self._produces: set[asyncio.Task[bool]] = set()

    def destination(self, event: EventRecord) -> Destination:
        return destination_of(event, self._partitions)

    async def publish(self, events: Sequence[EventRecord], deadline: datetime) -> bool:
        """Produce stored events, and return whether the stream has them by the deadline.

        After it the produce goes on: a producer whose produce is interrupted would be dropped.
        """
        left = (deadline - self._clock.steady()).total_seconds()
        records = [
            self.destination(each).record(each.aggregate_id, encode(each)) for each in events
        ]
        task = asyncio.create_task(self._produce(records))
        self._produces.add(task)
        task.add_done_callback(self._produces.discard)
        done, _ = await asyncio.wait({task}, timeout=max(left, MIN_WAIT_SECONDS))
        return bool(done) and task.result()

    async def close(self) -> None:
        """Give up what is not acknowledged yet."""
        for task in self._produces:
            task.cancel()
        if self._produces:
            await asyncio.wait(self._produces, timeout=CLOSE_SECONDS)

    async def _produce(self, records: list[ProducerRecord]) -> bool:
        try:
            await self._writer.produce(records)
        except ServerUnavailable:
            return False
        return True
