"""Sweep: events that were put and never placed are brought to the stream again.

Who put them died, or the stream was down. Takes the unplaced events of a partition; of each
aggregate that was among them twice running the highest version is produced, which places the
others too.
"""

from datetime import timedelta

from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import Clock, EventStore, LogWriter
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord

EVERY = timedelta(seconds=2)
LIMIT = 1_000


class Sweep:
    """The sweep of one partition of one domain."""

    def __init__(
        self, domain: str, partition: int, store: EventStore, writer: LogWriter, clock: Clock
    ) -> None:
        self._partition, self._store, self._writer = partition, store, writer
        self._clock, self._events = clock, Topics.of(domain).events
        self._due = clock.now()
        self._seen: frozenset[str] = frozenset()

    async def tick(self) -> ChunkReport:
        """Sweep when it is time to."""
        if self._clock.now() < self._due:
            return ChunkReport()
        self._due = self._clock.now() + EVERY
        waiting = await self._store.sweep(self._partition, LIMIT)
        highest = {event.aggregate_id: event for event in waiting}
        again = [event for key, event in highest.items() if key in self._seen]
        self._seen = frozenset(highest)
        if again:
            await self._writer.produce([self._nudge(event) for event in again])
        return ChunkReport(nudged=len(again))

    def _nudge(self, event: EventRecord) -> ProducerRecord:
        key = event.aggregate_id.encode()
        return ProducerRecord(self._events, key, encode(event), self._partition, EVENT_HEADERS)
