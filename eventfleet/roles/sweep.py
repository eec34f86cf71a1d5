"""Sweep: publishes again the events that were put and never placed.

Their process died before it published them, or the log was down. A sweep takes the unplaced events
of a partition; of each aggregate that was among them in two sweeps running, the highest version is
produced: placing it places the others too.
"""

from datetime import timedelta

from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import Clock, EventStore, LogWriter
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord

SWEEP_INTERVAL = timedelta(seconds=2)
MAX_SWEEP_EVENTS = 1_000


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
        """Sweep if a sweep is due."""
        if self._clock.now() < self._due:
            return ChunkReport()
        self._due = self._clock.now() + SWEEP_INTERVAL
        unplaced = await self._store.sweep(self._partition, MAX_SWEEP_EVENTS)
        highest = {event.aggregate_id: event for event in unplaced}
        stuck = [event for key, event in highest.items() if key in self._seen]
        self._seen = frozenset(highest)
        if stuck:
            await self._writer.produce([self._nudge(event) for event in stuck])
        return ChunkReport(nudged=len(stuck))

    def _nudge(self, event: EventRecord) -> ProducerRecord:
        key = event.aggregate_id.encode()
        return ProducerRecord(self._events, key, encode(event), self._partition, EVENT_HEADERS)
