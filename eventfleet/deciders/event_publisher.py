"""EventPublisher: produces the stored events of synchronous commands to `<domain>.events`."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from eventfleet.stores.contracts import Clock, LogWriter
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import Destination, destination_of
from eventfleet.topics.record import ProducerRecord

MIN_WAIT_SECONDS = 0.05
MAX_UNACKNOWLEDGED_RECORDS = 1_000
MAX_UNACKNOWLEDGED_BYTES = 8_000_000
MAX_UNACKNOWLEDGED_AGE = timedelta(seconds=1)
DRAIN_SECONDS = 5.0
CANCEL_SECONDS = 1.0


class Produce(NamedTuple):
    """A produce that is not acknowledged yet."""

    records: int
    bytes: int
    began: datetime


class EventPublisher:
    """The way of a Manager's events to the message stream.

    The append role assigns positions to each produced event and to the aggregate's events before
    it. Events that the stream did not take wait for the sweep of that role.
    """

    def __init__(
        self, writer: LogWriter | None, topic: str, clock: Clock, *, partitions: int
    ) -> None:
        """Without a `writer` the store has produced the events with their put."""
        self._writer, self._topic, self._clock = writer, topic, clock
        self._partitions = partitions
        self._produces: dict[asyncio.Task[bool], Produce] = {}  # in the order of their beginning
        self._failing = False

    def destination(self, event: EventRecord) -> Destination:
        return destination_of(self._topic, event.aggregate_id, self._partitions)

    async def publish(self, events: Sequence[EventRecord], deadline: datetime) -> bool:
        """Produce stored events, and return whether the stream has them by the deadline.

        After it the produce goes on: a producer whose produce is interrupted would be dropped.
        """
        if self._writer is None:
            return True
        left = (deadline - self._clock.steady()).total_seconds()
        task = self._start(events)
        done, _ = await asyncio.wait({task}, timeout=max(left, MIN_WAIT_SECONDS))
        return bool(done) and task.result()

    @property
    def keeps_up(self) -> bool:
        """True while what is stored may be produced behind the answer: waiting for the stream is
        otherwise the only brake, and a sweep brings back only some hundred events a second."""
        waiting = self._produces.values()
        if self._failing or not waiting:
            return not self._failing
        return (
            sum(each.records for each in waiting) < MAX_UNACKNOWLEDGED_RECORDS
            and sum(each.bytes for each in waiting) < MAX_UNACKNOWLEDGED_BYTES
            and self._clock.steady() - next(iter(waiting)).began < MAX_UNACKNOWLEDGED_AGE
        )

    def publish_later(self, events: Sequence[EventRecord], fail: Callable[[], None]) -> None:
        """Produce stored events meanwhile; `fail` is called when the stream does not take them."""
        if self._writer is None:
            return

        def end(task: asyncio.Task[bool]) -> None:
            if task.cancelled() or task.exception() or not task.result():
                fail()

        self._start(events).add_done_callback(end)

    async def close(self) -> None:
        """Wait for what is not acknowledged yet, unless the stream is away; then give it up."""
        if self._produces and not self._failing:
            await asyncio.wait(self._produces, timeout=DRAIN_SECONDS)
        for task in list(self._produces):
            task.cancel()
        if self._produces:
            await asyncio.wait(self._produces, timeout=CANCEL_SECONDS)

    def _start(self, events: Sequence[EventRecord]) -> asyncio.Task[bool]:
        records = [
            self.destination(each).record(each.aggregate_id, encode(each)) for each in events
        ]
        task = asyncio.create_task(self._produce(records))
        size = sum(len(each.value or b"") for each in records)
        self._produces[task] = Produce(len(records), size, self._clock.steady())
        task.add_done_callback(self._produces.pop)
        return task

    async def _produce(self, records: list[ProducerRecord]) -> bool:
        assert self._writer is not None
        taken = False
        try:
            await self._writer.produce(records)
            taken = True
        except ServerUnavailable:
            pass
        finally:  # after a refusal, too: then the next command waits, and is told
            self._failing = not taken
        return taken
