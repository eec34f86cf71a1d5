"""Sweep: publishes again the events that were put and never placed.

Their process died before it published them, or the log was down. A sweep takes the unplaced events
of a partition. Where one of them is unplaced still when append has come to the end that the log had
then, it is not in the log: of its aggregate the highest version is produced, since placing it
places the others too.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

from msgspec.structs import replace

from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import Clock, EventStore, LogWriter, Watermarks
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord

SWEEP_INTERVAL = timedelta(seconds=2)
REST_SWEEP_INTERVAL = timedelta(seconds=4)
MAX_SWEEP_EVENTS = 1_000

ReadWatermarks = Callable[[], Awaitable[Watermarks]]


class Sighting(NamedTuple):
    """The highest unplaced version of an aggregate, and the log's end when it was seen."""

    version: int
    end: int


class Sweep:
    """The sweep of one partition of `topic`, a `<domain>.events`, whose `watermarks` it reads."""

    def __init__(
        self,
        topic: str,
        partition: int,
        store: EventStore,
        writer: LogWriter,
        watermarks: ReadWatermarks,
        clock: Clock,
    ) -> None:
        self._partition, self._store, self._writer = partition, store, writer
        self._watermarks, self._clock = watermarks, clock
        self._topic = topic
        self._due = clock.steady()
        self._next_offset = 0
        self.at_rest = False
        """True when nothing was unplaced, and append had placed nothing since the sweep before."""
        self._seen: Mapping[str, Sighting] = {}

    async def tick(self, next_offset: int) -> ChunkReport:
        """Sweep if a sweep is due. `next_offset`: append has placed what lies below it."""
        if self._clock.steady() < self._due:
            return ChunkReport()
        unplaced = await self._store.sweep(self._partition, MAX_SWEEP_EVENTS)
        self.at_rest = not unplaced and next_offset == self._next_offset
        pause = REST_SWEEP_INTERVAL if self.at_rest else SWEEP_INTERVAL
        self._due, self._next_offset = self._clock.steady() + pause, next_offset
        lowest = {event.aggregate_id: event for event in reversed(unplaced)}
        highest = {event.aggregate_id: event for event in unplaced}
        waiting = {
            key: seen
            for key, seen in self._seen.items()
            if key in lowest and lowest[key].version <= seen.version
        }
        stuck = [highest[key] for key, seen in waiting.items() if seen.end <= next_offset]
        if stuck:
            await self._writer.produce([self._nudge(event) for event in stuck])
        await self._look_at(highest, waiting, next_offset)
        return ChunkReport(nudged=len(stuck))

    async def _look_at(
        self,
        highest: Mapping[str, EventRecord],
        waiting: Mapping[str, Sighting],
        next_offset: int,
    ) -> None:
        """Remember what was seen now; what waits for append stays as it was seen first."""
        if not highest:
            self._seen = {}
            return
        end = (await self._watermarks()).end
        fresh = {key: Sighting(event.version, end) for key, event in highest.items()}
        behind = {key: seen for key, seen in waiting.items() if seen.end > next_offset}
        self._seen = fresh | behind

    def _nudge(self, event: EventRecord) -> ProducerRecord:
        key = event.aggregate_id.encode()
        value = encode(replace(event, discarded=False))
        return ProducerRecord(self._topic, key, value, self._partition, EVENT_HEADERS)
