"""Commander: puts the events of a synchronous command, and lets the stream know."""

from collections.abc import Sequence
from datetime import datetime

from protocols.pending import Destination, destination_of
from service.outbox import Outbox
from stores.contracts import Clock, EventStore, LogWriter
from topics.codec import HEADERS, encode
from topics.event import EventRecord
from topics.record import Outgoing

LEAST = 0.05


class Commander:
    """Event numbers are dispensed by the store: the put of a version that is taken is refused."""

    def __init__(
        self, store: EventStore, writer: LogWriter, clock: Clock, *, partitions: int
    ) -> None:
        self._store, self._clock, self._partitions = store, clock, partitions
        self._outbox = Outbox(writer)

    def destination(self, event: EventRecord) -> Destination:
        """Where its nudge goes."""
        return destination_of(event, self._partitions)

    async def put(self, events: Sequence[EventRecord]) -> None:
        """All or none. Duplicate when a version, or the command's first event, is there already."""
        await self._store.put(events, self.destination(events[0]).partition)

    async def publish(self, event: EventRecord, deadline: datetime) -> bool:
        """Produce a stored event, so that append places it and those below it; whether it went."""
        topic, partition, _ = self.destination(event)
        key = event.aggregate_id.encode()
        record = Outgoing(topic, key, encode(event), partition, HEADERS)
        left = (deadline - self._clock.now()).total_seconds()
        return await self._outbox.send(record, max(left, LEAST))

    async def close(self) -> None:
        await self._outbox.close()
