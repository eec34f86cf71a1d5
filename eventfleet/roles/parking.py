"""Parking: the aggregates that one role parks in one partition.

An aggregate is parked at an event that the role can't handle, since code of the domain raises on
it. Its later events are parked behind it; other aggregates flow. A redrive handles the parked
events again, in order; a discard passes over the first of them.
"""

import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import Any, Protocol

from msgspec.structs import replace

from eventfleet.model.team_traceback import error_line, team_traceback
from eventfleet.roles.role import PartitionFault
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.dead_letters import (
    DeadLetterStore,
    ParkedEntries,
    RedriveRequest,
)
from eventfleet.stores.errors import ServerUnavailable
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
    behind_record,
    discarded_record,
    parked_record,
)
from eventfleet.topics.record import LogRecord, ProducerRecord

MAX_PARKED_AGGREGATES = 10_000
MAX_REQUESTS = 1_000
MAX_REASONS = 100
MAX_NAMED = 20
"""How many parked aggregates of one reason are named in the log; an operator lists the others."""
OTHER_REASONS = "for other reasons"
WAITING = "waits for the rest of its redrive"
COMPARE_INTERVAL = timedelta(seconds=30)
REST_COMPARE_INTERVAL = timedelta(minutes=5)
"""While nothing is parked, after the first comparison of an owner."""
COPY_INTERVAL = timedelta(seconds=1)
UNASKED_REDRIVE_DELAY = timedelta(seconds=10)
"""Owners come and go while a deployment is rolled out, and operators may ask first."""
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
        self.parked, self.most = parked, most
        self.details = parked.details
        self.fields = {
            "aggregate_id": parked.aggregate_id,
            "event_id": parked.event_id,
            "event_type": parked.event_type,
            "version": parked.first,
        }


class ParkedLog(Protocol):
    """Reads what a role parks, where the log has it."""

    async def load(self, domain: str, role: str, partition: int) -> ParkedEntries:
        """Return what is committed. ServerUnavailable while a transaction is open."""


class Parking:
    """The aggregates that a role parks in a partition, kept in the dead-letter store.

    `<domain>.parked` has a copy, from which a lost store is filled again. The caller awaits `save`
    before it moves its offset, and `release` after that. Where the two are cut off, `open` starts
    over.
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
        tried: set[tuple[str, int]] | None = None,
    ) -> None:
        """With more than `most` parked aggregates, `park` raises TooManyParked.

        `tried`, which the owners in a process share, are the events by aggregate and version that
        its code has raised on. With it, what another process has parked is redriven once, unasked:
        that process may have run other code.
        """
        self._domain, self._role, self._partition = domain, role, partition
        self._letters, self._clock, self._most = letters, clock, most
        self._tried = tried
        self._untried: dict[str, None] = {}
        self._try_at = clock.steady()
        self.aggregates: dict[str, ParkedAggregate] = {}
        self.discards: set[tuple[str, int]] = set()
        self._changed: set[str] = set()
        self._ended: set[str] = set()
        self._fresh: set[str] = set()
        self._new: set[str] = set()
        self._longer: set[str] = set()
        self._discarded: list[DiscardedEvent] = []
        self._unlogged: set[str] = set()  # parked before this owner; the log may not have them
        self._reasons: Counter[str] = Counter()
        self._unnamed: Counter[str] = Counter()
        self._unlisted: list[ParkedAggregate] = []
        self._redrive_until = clock.steady()
        self._compared_at = clock.steady()
        self._has_compared = False  # since it was opened

    async def open(self) -> None:
        """Load what is parked; called by an owner that has fenced those before it.

        `discards` are the discarded events of the role, by aggregate and version: their records in
        the log do not say so.
        """
        self._start(await self._load())
        self._unlogged = {*self.aggregates}
        self.discards = await self._load_discards()
        self._find_untried()

    def _find_untried(self) -> None:
        if self._tried is None:
            return
        parked = self.aggregates.items()
        untried = [key for key, each in parked if (key, each.first) not in self._tried]
        self._untried = dict.fromkeys(untried)
        self._try_at = self._clock.steady() + UNASKED_REDRIVE_DELAY
        if untried:
            logger.warning(
                "%s of %s, partition %d will try again %d aggregates that another process has "
                "parked",
                *(self._role, self._domain, self._partition, len(untried)),
                extra=self._place,
            )

    async def _load_discards(self) -> set[tuple[str, int]]:
        discarded = await self._letters.discarded_by(self._role)
        return {(each.aggregate_id, each.version) for each in discarded}

    async def _load(self) -> list[ParkedAggregate]:
        return await self._letters.parked_in(self._role, self._partition)

    def _start(self, parked: Iterable[ParkedAggregate]) -> None:
        self.aggregates = {each.aggregate_id: each for each in parked}
        self._compared_at = self._clock.steady()
        self._has_compared = False
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
        self._new = set()
        self._longer = set()
        self._discarded = []
        self._unnamed.clear()

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
            self._log_parked(parked, correlation_id)
            self._check_room(parked)
            self._fresh.add(aggregate_id)
            self._new.add(aggregate_id)
        if self._tried is not None:
            self._tried.add((aggregate_id, version))
        self._set(parked)

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
            raise TooManyParked(self._role, self._domain, parked, self._most)

    def _log_parked(self, parked: ParkedAggregate, correlation_id: str | None) -> None:
        """Log what is parked; the team's lines of the traceback once for each reason.

        The first of each reason are named; of the others each chunk logs the number.
        """
        reason = parked.reason
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = OTHER_REASONS
        self._reasons[reason] += 1
        if self._reasons[reason] > MAX_NAMED:
            self._unnamed[reason] += 1
            return
        told = reason == OTHER_REASONS or self._reasons[reason] > 1
        logger.warning(
            "%s of %s, partition %d parks %r at version %d, %s %s: %s%s",
            *(self._role, self._domain, self._partition, parked.aggregate_id, parked.first),
            *(parked.event_type, parked.event_id, parked.reason),
            "" if told else f"\n{parked.details}",
            extra=self._fields(parked) | {"correlation_id": correlation_id},
        )

    def _log_unnamed(self) -> None:
        for reason, count in self._unnamed.items():
            logger.warning(
                "%s of %s, partition %d parks %d more aggregates: %s",
                *(self._role, self._domain, self._partition, count, reason),
                extra=self._place,
            )

    def _log_ended(self) -> None:
        """Log whose parking has ended: some by name, the number of the others."""
        place = self._role, self._domain, self._partition
        text = "%s of %s, partition %d parks %r no longer"
        for key in sorted(self._ended)[:MAX_NAMED]:
            logger.warning(text, *place, key, extra=self._place | {"aggregate_id": key})
        if (more := len(self._ended) - MAX_NAMED) > 0:
            text = "%s of %s, partition %d parks %d more aggregates no longer"
            logger.warning(text, *place, more, extra=self._place)

    @property
    def _place(self) -> dict[str, Any]:
        return {"domain": self._domain, "role": self._role, "partition": self._partition}

    def _fields(self, parked: ParkedAggregate) -> dict[str, Any]:
        """Return the fields of a log line about a parked aggregate."""
        return self._place | {
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

    @property
    def is_unsaved(self) -> bool:
        """True when a parking has changed or ended since `release`."""
        return bool(self._changed or self._ended)

    def holds(self, record: LogRecord) -> bool:
        """Return whether the record's aggregate is parked."""
        return (record.key or b"").decode("utf-8", "replace") in self.aggregates

    def dead_letters(self, records: Iterable[LogRecord]) -> list[ProducerRecord]:
        """Make the dead letters of what was parked since: those of its first events among these."""
        if not self._fresh:
            return []
        keys = {aggregate_id.encode() for aggregate_id in self._fresh}
        theirs = [record for record in records if record.key in keys]
        return [letter for record in theirs if (letter := self._letter(record))]

    def _letter(self, record: LogRecord) -> ProducerRecord | None:
        aggregate_id = (record.key or b"").decode()
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
        if now - self._compared_at >= self._compare_interval:
            self._compared_at, self._has_compared = now, True
            await self._compare()
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
                self._compared_at = now - COMPARE_INTERVAL
        return due + self._unasked(asked)

    def _unasked(self, asked: Container[str]) -> list[tuple[ParkedAggregate, RedriveRequest]]:
        """Return requests for the next aggregates that this process has not tried yet."""
        if self._clock.steady() < self._try_at:
            return []
        untried = [key for key in islice(self._untried, MAX_REQUESTS) if key not in asked]
        return [
            (parked, RedriveRequest(key, parked.first))
            for key in untried
            if (parked := self.aggregates.get(key))
        ]

    @property
    def _compare_interval(self) -> timedelta:
        settled = self._has_compared and not self.aggregates
        return REST_COMPARE_INTERVAL if settled else COMPARE_INTERVAL

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
        self.discards.add((aggregate_id, parked.first))

    def end(self, aggregate_id: str, up_to: int) -> None:
        """End the parking of events up to a version; of all, if none is behind it."""
        parked = self.aggregates[aggregate_id]
        if up_to < parked.last:
            left = replace(parked, first=up_to + 1, event_id="", event_type="")
            self._set(replace(left, reason=WAITING, details="", attempts=0))
            return
        del self.aggregates[aggregate_id]
        if self._tried is not None:
            self._tried.discard((aggregate_id, parked.first))
        self._untried.pop(aggregate_id, None)
        self._changed.discard(aggregate_id)
        self._ended.add(aggregate_id)

    async def end_request(self, request: RedriveRequest) -> None:
        """End a request whose aggregate stays parked."""
        self._untried.pop(request.aggregate_id, None)
        await self._letters.end_request(self._role, request)

    # Keep

    async def save(self) -> list[ProducerRecord]:
        """Save what was parked since. Returns the records to be written with the offset."""
        await self._copy()
        return self._records()

    def _records(self) -> list[ProducerRecord]:
        """Make the records of what was parked, ended and discarded since."""
        place, parked = (self._domain, self._role, self._partition), self.aggregates
        longer = self._longer - self._changed - self._ended
        changed = self._changed | (self._unlogged & parked.keys())
        return [
            *(parked_record(*place, key, parked[key]) for key in sorted(changed)),
            *(behind_record(*place, key, parked[key].last) for key in sorted(longer)),
            *(parked_record(*place, key, None) for key in sorted(self._ended)),
            *(behind_record(*place, key, None) for key in sorted(self._ended)),
            *self._discard_records(),
        ]

    def _discard_records(self) -> list[ProducerRecord]:
        place = self._domain, self._partition
        return [discarded_record(*place, each) for each in self._discarded]

    async def release(self) -> None:
        """Remove what is no longer parked, once the offset has moved."""
        if self._ended:
            await self._letters.unpark(self._role, self._ended)
        self._unlogged = set()
        self._log_unnamed()
        self._log_ended()
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
    aggregate that only has more events behind it, no earlier. What is parked anew is copied once a
    second: while much is, each chunk would wait for the store. While that store is away redrives
    wait, and events flow.
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
        tried: set[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__(domain, role, partition, letters, clock, most=most, tried=tried)
        self._log = log
        self._uncopied: set[str] = set()
        self._copied_at = clock.steady() - COPY_INTERVAL
        self._store_is_away = False
        self._asked_at = clock.steady()
        self._unnoted: list[DiscardedEvent] = []

    async def open(self) -> None:
        await super().open()
        self._unlogged = set()
        with self._tolerating_absence():
            await self._compare()

    def _start(self, parked: Iterable[ParkedAggregate]) -> None:
        super()._start(parked)
        self._uncopied = set()

    async def _load(self) -> list[ParkedAggregate]:
        entries = await self._log.load(self._domain, self._role, self._partition)
        self._unnoted = list(entries.discarded)
        return entries.parked

    async def _load_discards(self) -> set[tuple[str, int]]:
        """Return those that the log has: the store may be away."""
        return {(each.aggregate_id, each.version) for each in self._unnoted}

    async def requests(self) -> Sequence[tuple[ParkedAggregate, RedriveRequest]]:
        """Return the next requests; none while the store is away, which is asked at an interval."""
        if self._store_is_away and self._clock.steady() - self._asked_at < COMPARE_INTERVAL:
            return []
        with self._tolerating_absence():
            if self._store_is_away:
                await self._compare()
            if self._uncopied:
                await self._copy_new()
            return await super().requests()
        return []

    @contextmanager
    def _tolerating_absence(self) -> Iterator[None]:
        """Note whether the store is away, and log it when it changes."""
        was_away = self._store_is_away
        try:
            yield
        except ServerUnavailable as error:
            self._store_is_away, self._asked_at = True, self._clock.steady()
            if not was_away:
                self._log_absence("redrives wait: %s", error)
            return
        self._store_is_away = False
        if was_away:
            self._log_absence("redrives wait no longer")

    def _log_absence(self, text: str, *arguments: object) -> None:
        logger.warning(
            f"%s of %s, partition %d: {text}",
            *(self._role, self._domain, self._partition, *arguments),
            extra={"domain": self._domain, "role": self._role, "partition": self._partition},
        )

    @property
    def _compare_interval(self) -> timedelta:
        return COMPARE_INTERVAL if self._unnoted else super()._compare_interval

    async def _compare(self) -> None:
        """Correct the copy, which an earlier owner may have written to since."""
        await self._letters.note_discarded(self._unnoted)
        self._unnoted = []
        listed = await self._letters.parked_in(self._role, self._partition)
        gone = [each.aggregate_id for each in listed if each.aggregate_id not in self.aggregates]
        if gone:
            await self._letters.unpark(self._role, gone)
        known = {each.aggregate_id: each for each in listed}
        changed = [each for key, each in self.aggregates.items() if known.get(key) != each]
        if changed:
            await self._letters.park(changed)

    async def save(self) -> list[ProducerRecord]:
        return self._records()

    async def release(self) -> None:
        self._unnoted += self._discarded
        self._uncopied = (self._uncopied | self._new) - self._ended
        self._changed -= self._uncopied
        if not self._store_is_away:  # what is not copied now is at the next comparison
            with self._tolerating_absence():
                await self._copy()
                self._unnoted = []
                if self._uncopied and self._clock.steady() - self._copied_at >= COPY_INTERVAL:
                    await self._copy_new()
                if self._ended:
                    await self._letters.unpark(self._role, self._ended)
        self._log_unnamed()
        self._log_ended()
        self._forget()

    async def _copy_new(self) -> None:
        self._copied_at = self._clock.steady()
        await self._letters.park([self.aggregates[key] for key in sorted(self._uncopied)])
        self._uncopied = set()


def _storable(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor BSON can hold."""
    return text.encode(errors="replace").decode()
