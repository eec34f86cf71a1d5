"""Parking: the aggregates that one role parks in one partition.

An aggregate is parked at an event that the role can't handle, since code of the domain raises on
it. Its later events are parked behind it; other aggregates flow. A redrive handles the parked
events again, in order; a discard passes over the first of them.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from msgspec.structs import replace

from eventfleet.model.team_traceback import team_traceback
from eventfleet.roles.role import PartitionFault
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.dead_letters import (
    DeadLetterStore,
    ParkedEntries,
    RedriveRequest,
)
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.dead_letters import (
    MAX_REASON_CHARS,
    MAX_TRACEBACK_CHARS,
    PARKED,
    make_dead_letter,
)
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import FoldableEvent
from eventfleet.topics.parked import (
    Discard,
    DiscardedEvent,
    ParkedAggregate,
    discarded_record,
    parked_record,
)
from eventfleet.topics.record import LogRecord, ProducerRecord

MAX_PARKED_AGGREGATES = 10_000
MAX_REQUESTS = 100
MAX_REASONS = 100
WAITING = "waits for the rest of its redrive"
COMPARE_INTERVAL = timedelta(seconds=30)
REDRIVE_TIME = timedelta(seconds=0.5)
"""The longest time for redrives between two chunks, but for the last aggregate or page."""

logger = logging.getLogger(__name__)


class TooManyParked(PartitionFault):
    """A partition in which so much is parked that the fault is hardly that of single events."""

    def __init__(self, role: str, domain: str, parked: ParkedAggregate, most: int) -> None:
        super().__init__(
            f"{role} can't go on: it parks {most} aggregates of this partition of {domain} "
            f"already, and {parked.aggregate_id!r} version {parked.first} would be another: "
            f"{parked.reason}"
        )
        self.details = parked.details


class ParkedLog(Protocol):
    """Reads what a role parks, where the log has it."""

    async def load(self, domain: str, role: str, partition: int) -> ParkedEntries:
        """Return what is committed. ServerUnavailable while a transaction is open."""


class Parking:
    """The aggregates that a role parks in a partition, kept in the dead-letter store.

    The caller awaits `save` before it moves its offset, and `release` after that. Where the two are
    cut off, `open` starts over.
    """

    def __init__(
        self,
        domain: str,
        role: str,
        partition: int,
        letters: DeadLetterStore,
        clock: Clock,
        *,
        most: int = MAX_PARKED_AGGREGATES,
    ) -> None:
        """With more than `most` parked aggregates, `park` raises TooManyParked."""
        self._domain, self._role, self._partition = domain, role, partition
        self._letters, self._clock, self._most = letters, clock, most
        self.aggregates: dict[str, ParkedAggregate] = {}
        self._changed: set[str] = set()
        self._ended: set[str] = set()
        self._fresh: set[str] = set()
        self._longer: set[str] = set()
        self._discarded: list[DiscardedEvent] = []
        self._reasons: set[str] = set()
        self._unlisted: list[ParkedAggregate] = []
        self._redrive_until = clock.steady()
        self._compared_at = clock.steady()

    async def open(self) -> None:
        """Load what is parked; called by an owner that has fenced those before it."""
        self._start(await self._load())

    async def _load(self) -> list[ParkedAggregate]:
        return await self._letters.parked_in(self._role, self._partition)

    def _start(self, parked: Iterable[ParkedAggregate]) -> None:
        self.aggregates = {each.aggregate_id: each for each in parked}
        self._compared_at = self._clock.steady()
        self._forget()

    async def _compare(self) -> None:
        """Correct what is in memory: an earlier owner may have parked an aggregate with its last
        breath, or ended its parking. Of the latter the events that were passed over are redriven.
        """
        listed = {each.aggregate_id: each for each in await self._load()}
        self._unlisted = [each for key, each in self.aggregates.items() if key not in listed]
        self.aggregates.update(listed)

    def _forget(self) -> None:
        self._changed, self._ended, self._fresh = set(), set(), set()
        self._longer = set()
        self._discarded = []

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
        known = self.aggregates.get(aggregate_id)
        parked = ParkedAggregate(
            role=self._role,
            partition=self._partition,
            aggregate_id=aggregate_id,
            first=version,
            last=max(version, known.last) if known else version,
            event_id=event_id,
            event_type=event_type,
            reason=_storable(_describe(error))[:MAX_REASON_CHARS],
            details=_storable(team_traceback(error))[-MAX_TRACEBACK_CHARS:],
            attempts=known.attempts + 1 if known and known.first == version else 1,
            parked_at=known.parked_at if known else self._clock.now(),
        )
        if known is None:
            self._log_parked(parked, correlation_id)
            if len(self.aggregates) >= self._most:
                raise TooManyParked(self._role, self._domain, parked, self._most)
            self._fresh.add(aggregate_id)
        self._set(parked)

    def _log_parked(self, parked: ParkedAggregate, correlation_id: str | None) -> None:
        """Log what is parked; the team's lines of the traceback once for each reason."""
        told = parked.reason in self._reasons or len(self._reasons) >= MAX_REASONS
        if not told:
            self._reasons.add(parked.reason)
        logger.warning(
            "%s of %s, partition %d parks %r at version %d, %s %s: %s%s",
            *(self._role, self._domain, self._partition, parked.aggregate_id, parked.first),
            *(parked.event_type, parked.event_id, parked.reason),
            "" if told else f"\n{parked.details}",
            extra=self._fields(parked) | {"correlation_id": correlation_id},
        )

    def _fields(self, parked: ParkedAggregate) -> dict[str, Any]:
        """Return the fields of a log line about a parked aggregate."""
        return {
            "domain": self._domain,
            "role": self._role,
            "partition": self._partition,
            "aggregate_id": parked.aggregate_id,
            "version": parked.first,
            "event_id": parked.event_id,
            "event_type": parked.event_type,
        }

    def park_behind(self, aggregate_id: str, version: int) -> None:
        """Park an event of a parked aggregate. One that is parked already changes nothing."""
        parked = self.aggregates[aggregate_id]
        if version > parked.last:
            self.aggregates[aggregate_id] = replace(parked, last=version)
            self._longer.add(aggregate_id)

    @property
    def is_changed(self) -> bool:
        """True when an aggregate was parked, or another event is its first one, since `release`."""
        return bool(self._changed)

    def holds(self, record: LogRecord) -> bool:
        """Return whether the record's aggregate is parked."""
        return (record.key or b"").decode("utf-8", "replace") in self.aggregates

    def dead_letters(self, records: Sequence[LogRecord]) -> list[ProducerRecord]:
        """Make the dead letters of what was parked since: those of its first events among these."""
        if not self._fresh:
            return []
        return [letter for record in records if (letter := self._letter(record))]

    def _letter(self, record: LogRecord) -> ProducerRecord | None:
        aggregate_id = (record.key or b"").decode("utf-8", "replace")
        if aggregate_id not in self._fresh:
            return None
        parked = self.aggregates[aggregate_id]
        with suppress(InvalidRecord):
            if decode_stored(record.value).version == parked.first:
                self._fresh.discard(aggregate_id)
                return make_dead_letter(
                    self._domain, self._role, record, PARKED, parked.reason, parked.details
                )
        return None

    def _set(self, parked: ParkedAggregate) -> None:
        self.aggregates[parked.aggregate_id] = parked
        self._changed.add(parked.aggregate_id)
        self._ended.discard(parked.aggregate_id)

    # Redrive

    async def requests(self) -> Sequence[tuple[ParkedAggregate, RedriveRequest]]:
        """Return the next requests, with what they are about; called between chunks."""
        now = self._clock.steady()
        self._redrive_until = now + REDRIVE_TIME
        if now - self._compared_at >= COMPARE_INTERVAL:
            self._compared_at = now
            await self._compare()
        if not self.aggregates:
            return []
        due = [(each, RedriveRequest(each.aggregate_id, each.first)) for each in self._unlisted]
        self._unlisted = []
        for request in await self._letters.requests(self._role, self._partition, MAX_REQUESTS):
            if parked := self.aggregates.get(request.aggregate_id):
                due.append((parked, request))
            else:  # ours, or an earlier owner's that has not heard of its end
                self._compared_at = now - COMPARE_INTERVAL
        return due

    def discard_of(self, parked: ParkedAggregate, request: RedriveRequest) -> Discard | None:
        """The discard that a request asks for; None where another event is the first one now."""
        return request.discard if request.first == parked.first else None

    @property
    def out_of_time(self) -> bool:
        """True when a chunk must come before the next redrive."""
        return self._clock.steady() >= self._redrive_until

    def discard_first(self, aggregate_id: str, discard: Discard) -> None:
        """Note that the first parked event of an aggregate is discarded; it stays parked."""
        parked = self.aggregates[aggregate_id]
        self._discarded.append(
            DiscardedEvent(self._role, aggregate_id, parked.first, parked.event_id, discard)
        )

    def end(self, aggregate_id: str, up_to: int) -> None:
        """End the parking of events up to a version; of all, if none is behind it."""
        parked = self.aggregates[aggregate_id]
        if up_to < parked.last:
            left = replace(parked, first=up_to + 1, event_id="", event_type="")
            self._set(replace(left, reason=WAITING, details="", attempts=0))
            return
        logger.warning(
            "%s of %s, partition %d parks %r no longer",
            *(self._role, self._domain, self._partition, aggregate_id),
            extra=self._fields(parked),
        )
        del self.aggregates[aggregate_id]
        self._changed.discard(aggregate_id)
        self._ended.add(aggregate_id)

    async def end_request(self, request: RedriveRequest) -> None:
        """End a request whose aggregate stays parked."""
        await self._letters.end_request(self._role, request)

    # Keep

    async def save(self) -> list[ProducerRecord]:
        """Save what was parked since. Returns the records to be written with the offset."""
        await self._copy()
        return []

    async def release(self) -> None:
        """Remove what is no longer parked, once the offset has moved."""
        if self._ended:
            await self._letters.unpark(self._role, self._ended)
        self._forget()

    async def _copy(self) -> None:
        """Have the changes in the dead-letter store."""
        if self._changed:
            await self._letters.park([self.aggregates[key] for key in sorted(self._changed)])
        if self._discarded:
            await self._letters.note_discarded(self._discarded)


class LoggedParking(Parking):
    """The aggregates that a role parks in a partition, kept in `<domain>.parked`.

    It changes in the transaction that has the outputs and the offset. The dead-letter store has a
    copy, which an owner corrects when it takes the partition over, and then at an interval: of an
    aggregate that only has more events behind it, no earlier.
    """

    def __init__(
        self,
        domain: str,
        role: str,
        partition: int,
        letters: DeadLetterStore,
        clock: Clock,
        log: ParkedLog,
        *,
        most: int = MAX_PARKED_AGGREGATES,
    ) -> None:
        super().__init__(domain, role, partition, letters, clock, most=most)
        self._log = log
        self.discards: dict[str, set[int]] = {}
        """The versions of discarded events, by aggregate."""

    async def open(self) -> None:
        await super().open()
        await self._compare()

    async def _load(self) -> list[ParkedAggregate]:
        entries = await self._log.load(self._domain, self._role, self._partition)
        await self._letters.note_discarded(entries.discarded)
        self.discards = {}
        for each in entries.discarded:
            self._pass_over(each.aggregate_id, each.version)
        return entries.parked

    def _pass_over(self, aggregate_id: str, version: int) -> None:
        self.discards.setdefault(aggregate_id, set()).add(version)

    def discard_first(self, aggregate_id: str, discard: Discard) -> None:
        super().discard_first(aggregate_id, discard)
        self._pass_over(aggregate_id, self.aggregates[aggregate_id].first)

    async def _compare(self) -> None:
        """Correct the copy, which an earlier owner may have written to since."""
        listed = await self._letters.parked_in(self._role, self._partition)
        gone = [each.aggregate_id for each in listed if each.aggregate_id not in self.aggregates]
        if gone:
            await self._letters.unpark(self._role, gone)
        known = {each.aggregate_id: each for each in listed}
        changed = [each for key, each in self.aggregates.items() if known.get(key) != each]
        if changed:
            await self._letters.park(changed)

    async def save(self) -> list[ProducerRecord]:
        changed = [
            parked_record(self._domain, self._role, self._partition, key, self.aggregates[key])
            for key in sorted((self._changed | self._longer) - self._ended)
        ]
        ended = [
            parked_record(self._domain, self._role, self._partition, key, None)
            for key in sorted(self._ended)
        ]
        discarded = [
            discarded_record(self._domain, self._partition, each) for each in self._discarded
        ]
        return changed + ended + discarded

    async def release(self) -> None:
        await self._copy()
        await super().release()


def _describe(error: Exception) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as raised:
        return f"{name}, whose text raises {type(raised).__name__}"


def _storable(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor BSON can hold."""
    return text.encode(errors="replace").decode()
