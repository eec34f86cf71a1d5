"""AppendParking: the aggregates that append parks in a partition, and their redrive by the log.

The parked events lie in the event store, unseen by readers; the dead-letter store lists their
aggregates. Both are written to `<domain>.parked` too, beside the offset: no other topic says which
of the records that append has passed are parked. A redrive writes their records to
`<domain>.events` again, in order and marked as redriven; the role places them when they come. What
waits for the rest of its redrive goes on by itself, under later owners too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, zip_longest

from msgspec.structs import replace

from eventfleet.roles.append_plan import ParkedItem
from eventfleet.roles.parked_set import rest_of
from eventfleet.roles.parking import MAX_PARKED_AGGREGATES, Parking
from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import (
    NO_HEAD,
    Clock,
    DeadLetterStore,
    EventStore,
    Head,
    LogWriter,
    VersionRange,
)
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.topics.codec import REDRIVEN_HEADERS, encode
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import (
    WAITING,
    DiscardedEvent,
    ParkedAggregate,
    discarded_record,
    parked_event_record,
)
from eventfleet.topics.record import ProducerRecord

ROLE = "append"
ROUND_EVENTS = 500
RETRY_INTERVAL = timedelta(seconds=30)
MAX_LOGGED_AGAIN_EVENTS = 1_000
"""The most parked events of earlier owners that a new owner writes to the log again."""


class Waits(Exception):
    """Stands for what an event fails at that only waits."""


@dataclass
class RedriveRound:
    """The records of an aggregate that were written again: `first` is the version of the first
    event, `last_offset` the offset of the last one."""

    first: int
    last_offset: int
    retry_at: datetime


class AppendParking(Parking):
    """The aggregates that append parks in a partition."""

    def __init__(
        self,
        topics: Topics,
        partition: int,
        letters: DeadLetterStore,
        clock: Clock,
        events: EventStore,
        writer: LogWriter,
        *,
        most: int = MAX_PARKED_AGGREGATES,
        tried: set[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__(topics, ROLE, partition, letters, clock, most=most, tried=tried)
        self._events, self._writer = events, writer
        self._rounds: dict[str, RedriveRound] = {}
        # By aggregate and version: parked since the last commit, or (None) placed.
        self._events_changed: dict[tuple[str, int], EventRecord | None] = {}
        self._discards_to_log: list[DiscardedEvent] = []

    async def open(self) -> None:
        self._parked.load(await self._letters.parked_in(ROLE, self._partition), [])
        self._rounds.clear()
        self._events_changed.clear()
        await self._compare()
        self._warnings.begin(self._schedule.begin(self.aggregates))
        await self._log_again()

    async def _log_again(self) -> None:
        """Have the next commit write what earlier versions of this code did not write to the log.

        The owner of partition 0 does so for the discards of all partitions.
        """
        self._parked.log_again()
        if self.aggregates:
            for event in await self._events.sweep(self._partition, MAX_LOGGED_AGAIN_EVENTS):
                self._events_changed[event.aggregate_id, event.version] = event
        self._discards_to_log = []
        if self._partition == 0:
            for role in (ROLE, "snapshot"):
                self._discards_to_log += await self._letters.discarded_by(role)

    async def _compare(self) -> None:
        """Correct what is listed, and what is in memory, by the event store."""
        parked = await self._letters.parked_in(ROLE, self._partition)
        listed = {each.aggregate_id: each for each in parked}
        known = listed | self.aggregates
        heads = await self._events.heads(known) if known else {}
        self._parked.correct(
            _corrected(each, heads[key])
            for key, each in known.items()
            if heads.get(key, NO_HEAD).parked
        )
        if gone := listed.keys() - self.aggregates.keys():
            await self._letters.unpark(ROLE, gone)
        if changed := [e for key, e in self.aggregates.items() if listed.get(key) != e]:
            await self._letters.park(changed)

    # What the role does with an event

    def add(self, item: ParkedItem) -> None:
        """Note that an event is parked. TooManyParked."""
        event = item.event
        self._events_changed[event.aggregate_id, event.version] = event
        if event.aggregate_id in self.aggregates:
            self.park_behind(event.aggregate_id, event.version)
        else:
            self.park_first(event, item.fault)

    def park_first(self, event: EventRecord, fault: Exception | None) -> None:
        """Park the aggregate at an event, which is redriven unasked if it has no fault."""
        self.park(event, fault or Waits(WAITING))
        if not fault:
            parked = self.aggregates[event.aggregate_id]
            self._parked.put(replace(parked, reason=WAITING, details="", attempts=0))
            self._schedule.note_ended(parked)  # it has not failed in this process

    def place(self, event: EventRecord, head: Head) -> None:
        """Note that the first parked event is placed; `head` is its aggregate's after that."""
        key = event.aggregate_id
        self._events_changed[key, event.version] = None
        parked = self.aggregates.get(key)
        if parked is not None:
            self.aggregates[key] = replace(parked, last=head.version)
            self.end(key, event.version)
        elif head.parked:
            rest = replace(event, version=event.version + 1, id="", type="")
            self.park_first(rest, None)

    async def save(self) -> list[ProducerRecord]:
        place = self._topics.parked, self._partition
        return [
            *await super().save(),
            *(parked_event_record(*place, *key, e) for key, e in self._events_changed.items()),
            *(discarded_record(*place, each) for each in self._discards_to_log),
        ]

    # Redrive

    async def redrive(self, next_offset: int) -> ChunkReport:
        """Write again what is to be redriven; `next_offset`: all below it is decided."""
        report = ChunkReport()
        due = await self._due(next_offset)
        if not due:
            return report
        each = max(ROUND_EVENTS // len(due), 1)
        ranges = [VersionRange(p.aggregate_id, p.first - 1, p.first - 1 + each) for p in due]
        events: dict[str, list[EventRecord]] = {}
        for event in await self._events.unplaced(ranges[:ROUND_EVENTS]):
            events.setdefault(event.aggregate_id, []).append(event)
        if len(events) < min(len(due), ROUND_EVENTS):
            self._schedule.compare_soon()  # another owner has placed some
        in_turn = [*filter(None, chain.from_iterable(zip_longest(*events.values())))]
        positions = await self._writer.produce([self._record(event) for event in in_turn])
        retry_at = self._clock.steady() + RETRY_INTERVAL
        for event, position in zip(in_turn, positions, strict=True):
            key = event.aggregate_id
            self._rounds[key] = RedriveRound(events[key][0].version, position.offset, retry_at)
        report.nudged = len(in_turn)
        return report

    async def _due(self, next_offset: int) -> list[ParkedAggregate]:
        """Return the aggregates that are to be redriven and of which no round is under way."""
        requests = {request.aggregate_id: (p, request) for p, request in await self.requests()}
        waiting = (key for key, p in self.aggregates.items() if p.reason == WAITING)
        due: list[ParkedAggregate] = []
        for key in [*dict.fromkeys(chain(requests, waiting))]:
            parked = self.aggregates[key]
            round = self._rounds.get(key)
            if round and round.last_offset >= next_offset:
                continue
            if round and round.first == parked.first and key in requests:
                await self.end_request(requests[key][1])  # it has failed again
                del self._rounds[key]
            elif not round or round.first != parked.first or self._is_late(round):
                await self._discard(*requests.get(key, (parked, None)))
                due.append(parked)
        return due

    def _is_late(self, round: RedriveRound) -> bool:
        return self._clock.steady() >= round.retry_at

    async def _discard(self, parked: ParkedAggregate, request: RedriveRequest | None) -> None:
        """Mark the first event as discarded where that is asked for; what is placed then is so."""
        discard = self.discard_of(parked, request) if request else None
        if discard:
            self.discard_first(parked.aggregate_id, discard)
            await self._writer.produce(self._parked.discard_records())
            await self._copy()
            self._parked.discarded.clear()
            key = EventKey(parked.aggregate_id, parked.event_id)
            await self._events.mark_discarded(key, parked=True)

    def _record(self, event: EventRecord) -> ProducerRecord:
        bare = replace(event, version=0, position=None, discarded=False)
        key = event.aggregate_id.encode()
        topic, value = self._topics.events, encode(bare)
        return ProducerRecord(topic, key, value, self._partition, REDRIVEN_HEADERS)

    async def release(self) -> None:
        for key in self._parked.ended:
            self._rounds.pop(key, None)
        await super().release()
        self._events_changed.clear()
        self._discards_to_log = []


def _corrected(parked: ParkedAggregate, head: Head) -> ParkedAggregate:
    """Return what is parked, by the head of its aggregate."""
    parked = replace(parked, last=head.version)
    return parked if parked.first == head.placed + 1 else rest_of(parked, head.placed + 1)
