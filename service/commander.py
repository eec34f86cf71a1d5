"""Commander: puts the events of a synchronous command, and lets the stream know."""

from collections.abc import Sequence
from datetime import datetime

from protocols.pending import Destination, destination_of
from service.bound import Bound
from service.together import Together
from stores.contracts import Clock, EventStore, LogWriter
from stores.errors import Duplicate, Unavailable
from topics.codec import HEADERS, encode
from topics.event import EventRecord, Position
from topics.record import Outgoing

LEAST = 0.05

Put = tuple[EventRecord, int]


class Commander:
    """Event numbers are dispensed by the store: the put of a version that is taken is refused."""

    def __init__(
        self, store: EventStore, writer: LogWriter, clock: Clock, *, partitions: int
    ) -> None:
        self._store, self._clock, self._partitions = store, clock, partitions
        self._puts: Together[Put, Duplicate | None] = Together(lambda puts: store.put_each(puts))
        self._outbox: Together[Outgoing, Position] = Together(lambda some: writer.produce(some))

    def destination(self, event: EventRecord) -> Destination:
        """Where its nudge goes."""
        return destination_of(event, self._partitions)

    async def put(self, events: Sequence[EventRecord]) -> None:
        """All or none. Duplicate when a version, or the command's first event, is there already."""
        partition = self.destination(events[0]).partition
        if len(events) > 1:
            await self._store.put(events, partition)
        elif clash := await self._puts.ask((events[0], partition)):
            raise clash

    async def publish(self, event: EventRecord, deadline: datetime) -> bool:
        """Produce a stored event, so that append places it and those below it; whether it went."""
        topic, partition, _ = self.destination(event)
        key = event.aggregate_id.encode()
        record = Outgoing(topic, key, encode(event), partition, HEADERS)
        left = (deadline - self._clock.now()).total_seconds()
        try:
            with Bound(max(left, LEAST)):
                await self._outbox.ask(record)
        except (Unavailable, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """What is not acknowledged yet is given up."""
        await self._puts.close()
        await self._outbox.close()
