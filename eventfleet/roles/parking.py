"""Parking: the aggregates that one role parks in one partition.

An aggregate is parked at an event that the role can't handle, since code of the domain raises on
it. Its later events are parked behind it; other aggregates flow. A redrive handles the parked
events again, in order; a discard passes over the first of them.
"""

import logging
from collections.abc import Iterable, Sequence

from eventfleet.model.team_traceback import error_line, team_traceback
from eventfleet.roles.parked_set import ParkedSet
from eventfleet.roles.parking_warnings import ParkingWarnings, event_fields
from eventfleet.roles.redrive_schedule import MAX_REQUESTS, RedriveSchedule
from eventfleet.roles.role import PartitionFault
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.dead_letters import (
    DeadLetterStore,
    ParkedEntries,
    RedriveRequest,
)
from eventfleet.topics.dead_letters import MAX_REASON_CHARS, MAX_TRACEBACK_CHARS
from eventfleet.topics.event import FoldableEvent
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import Discard, ParkedAggregate
from eventfleet.topics.record import LogRecord, ProducerRecord

MAX_PARKED_AGGREGATES = 10_000

logger = logging.getLogger(__name__)


class TooManyParked(PartitionFault):
    """A partition in which so much is parked that the fault is hardly that of single events."""

    def __init__(self, role: str, domain: str, parked: ParkedAggregate, most: int) -> None:
        super().__init__(
            f"{role} can't go on: it parks {most} aggregates of this partition of {domain} "
            f"already, and {parked.aggregate_id!r} version {parked.first} would be another: "
            f"{parked.reason}"
        )
        self.parked, self.most = parked, most
        self.details = parked.details
        self.fields = event_fields(parked)


class Parking:
    """The aggregates that a role parks in a partition, kept in the dead-letter store.

    `<domain>.parked` has a copy, from which a lost store is filled again. The caller awaits `save`
    before it moves its offset, and `release` after that. Where the two are cut off, `open` starts
    over. `discards` are the discarded events of the role, by aggregate and version: their records
    in the log do not say so.
    """

    def __init__(
        self,
        topics: Topics,
        role: str,
        partition: int,
        letters: DeadLetterStore,
        clock: Clock,
        *,
        most: int = MAX_PARKED_AGGREGATES,
        tried: set[tuple[str, int]] | None = None,
    ) -> None:
        """With more than `most` parked aggregates, `park` raises TooManyParked; for `tried` see
        RedriveSchedule."""
        self._topics, self._role, self._partition = topics, role, partition
        self._letters, self._clock, self._most = letters, clock, most
        self._parked = ParkedSet(topics, role, partition)
        self.aggregates, self.discards = self._parked.aggregates, self._parked.discards
        self._warnings = ParkingWarnings(logger, topics.domain, role, partition)
        self._schedule = RedriveSchedule(clock, tried)
        self._unlisted: list[ParkedAggregate] = []

    async def open(self) -> None:
        """Load what is parked; called by an owner that has fenced those before it."""
        self._parked.load(*await self._load())
        self._parked.log_again()
        self._warnings.begin(self._schedule.begin(self.aggregates))

    async def _load(self) -> ParkedEntries:
        parked = await self._letters.parked_in(self._role, self._partition)
        return ParkedEntries(parked, await self._letters.discarded_by(self._role))

    async def _compare(self) -> None:
        """Correct what is in memory: an earlier owner may have parked an aggregate with its last
        breath, or ended its parking. Of the latter the events that were passed over are redriven.
        """
        parked = await self._letters.parked_in(self._role, self._partition)
        listed = {each.aggregate_id: each for each in parked}
        self._unlisted = [each for key, each in self.aggregates.items() if key not in listed]
        self._parked.correct((self.aggregates | listed).values())

    # Park

    def park(self, event: FoldableEvent, error: Exception) -> None:
        """Park the event's aggregate at it, for the error of the domain's code. TooManyParked."""
        correlation_id = getattr(event, "correlation_id", None)
        self.park_at(
            *(event.aggregate_id, event.version, error, event.id, event.type, correlation_id)
        )

    def park_at(
        self,
        aggregate_id: str,
        version: int,
        error: Exception,
        event_id: str = "",
        event_type: str = "",
        correlation_id: str | None = None,
    ) -> None:
        """Park an aggregate at a version, of whose event no more may be known. TooManyParked."""
        parked = self._describe(aggregate_id, version, error, event_id, event_type)
        if aggregate_id not in self.aggregates:
            self._warnings.log_parked(parked, correlation_id)
            self._check_room(parked)
        self._schedule.note_tried(aggregate_id, version)
        self._parked.put(parked)

    def _describe(
        self, aggregate_id: str, version: int, error: Exception, event_id: str, event_type: str
    ) -> ParkedAggregate:
        known = self.aggregates.get(aggregate_id)
        return ParkedAggregate(
            role=self._role,
            partition=self._partition,
            aggregate_id=aggregate_id,
            first=version,
            last=max(version, known.last) if known else version,
            event_id=event_id,
            event_type=event_type,
            reason=_storable(error_line(error))[:MAX_REASON_CHARS],
            details=_storable(team_traceback(error))[-MAX_TRACEBACK_CHARS:],
            attempts=known.attempts + 1 if known and known.first == version else 1,
            parked_at=known.parked_at if known else self._clock.now(),
        )

    def _check_room(self, parked: ParkedAggregate) -> None:
        if len(self.aggregates) >= self._most:
            raise TooManyParked(self._role, self._topics.domain, parked, self._most)

    def park_behind(self, aggregate_id: str, version: int) -> None:
        """Park an event of a parked aggregate. One that is parked already changes nothing."""
        self._parked.put_behind(aggregate_id, version)

    @property
    def is_unsaved(self) -> bool:
        """True when a parking has changed or ended since `release`."""
        return bool(self._parked.changed or self._parked.ended)

    def dead_letters(self, records: Iterable[LogRecord]) -> list[ProducerRecord]:
        """Make the dead letters of what was parked since: those of its first events among these."""
        return self._parked.dead_letters(records)

    # Redrive

    async def requests(self) -> Sequence[tuple[ParkedAggregate, RedriveRequest]]:
        """Return the next requests, with what they are about; called between chunks."""
        self._schedule.begin_turn()
        if self._schedule.compares(at_rest=not self.aggregates):
            await self._compare()
            self._schedule.find_untried(self.aggregates)
        if not self.aggregates:
            return []
        due = [(each, RedriveRequest(each.aggregate_id, each.first)) for each in self._unlisted]
        self._unlisted = []
        asked = set()
        for request in await self._letters.requests(self._role, self._partition, MAX_REQUESTS):
            if parked := self.aggregates.get(request.aggregate_id):
                due.append((parked, request))
                asked.add(request.aggregate_id)
            else:  # ours, or an earlier owner's that has not heard of its end
                self._schedule.compare_soon()
        return due + self._schedule.unasked(self.aggregates, asked)

    def discard_of(self, parked: ParkedAggregate, request: RedriveRequest) -> Discard | None:
        """The discard that a request asks for; None where another event is the first one now."""
        return request.discard if request.first == parked.first else None

    @property
    def out_of_time(self) -> bool:
        """True when a chunk must come before the next redrive."""
        return self._schedule.out_of_time

    def discard_first(self, aggregate_id: str, discard: Discard) -> None:
        """Note that the first parked event of an aggregate is discarded; it stays parked."""
        self._parked.discard_first(aggregate_id, discard)

    def end(self, aggregate_id: str, up_to: int) -> None:
        """End the parking of events up to a version; of all, if none is behind it."""
        parked = self.aggregates[aggregate_id]
        if self._parked.end(aggregate_id, up_to):
            self._schedule.note_ended(parked)

    async def end_request(self, request: RedriveRequest) -> None:
        """End a request whose aggregate stays parked."""
        self._schedule.end_unasked(request.aggregate_id)
        await self._letters.end_request(self._role, request)

    # Keep

    async def save(self) -> list[ProducerRecord]:
        """Save what was parked since. Returns the records to be written with the offset."""
        await self._copy()
        return self._parked.records()

    async def release(self) -> None:
        """Remove what is no longer parked, once the offset has moved."""
        if self._parked.ended:
            await self._letters.unpark(self._role, self._parked.ended)
        if self.is_unsaved:
            self._warnings.log_saved(self._parked.ended)
        self._parked.forget()

    async def _copy(self) -> None:
        """Have the changes in the dead-letter store."""
        if self._parked.changed:
            await self._letters.park(self._parked.sorted_by_id(self._parked.changed))
        if self._parked.discarded:
            await self._letters.note_discarded(self._parked.discarded)


def _storable(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor BSON can hold."""
    return text.encode(errors="replace").decode()
