"""LoggedParking: the aggregates that relay or project parks, kept in the log beside its offset."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from eventfleet.roles.parking import MAX_PARKED_AGGREGATES, Parking
from eventfleet.roles.redrive_schedule import COMPARE_INTERVAL
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.dead_letters import (
    DeadLetterStore,
    ParkedEntries,
    RedriveRequest,
)
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import DiscardedEvent, ParkedAggregate
from eventfleet.topics.record import LogRecord, ProducerRecord

COPY_INTERVAL = timedelta(seconds=1)


class ParkedLog(Protocol):
    """Reads what a role parks, where the log has it."""

    async def load(self, role: str, partition: int) -> ParkedEntries:
        """Return what is committed. ServerUnavailable while a transaction is open."""


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
        topics: Topics,
        role: str,
        partition: int,
        letters: DeadLetterStore,
        clock: Clock,
        log: ParkedLog,
        *,
        most: int = MAX_PARKED_AGGREGATES,
        tried: set[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__(topics, role, partition, letters, clock, most=most, tried=tried)
        self._log = log
        self._uncopied: set[str] = set()
        self._copied_at = clock.steady() - COPY_INTERVAL
        self._store_is_away = False
        self._asked_at = clock.steady()
        self._unnoted: list[DiscardedEvent] = []

    async def open(self) -> None:
        self._uncopied = set()
        await super().open()
        self._parked.forget()  # the log has all of it
        with self._tolerating_absence():
            await self._compare()

    async def _load(self) -> ParkedEntries:
        """Return what the log has: the store may be away."""
        entries = await self._log.load(self._role, self._partition)
        self._unnoted = list(entries.discarded)
        return entries

    def holds(self, record: LogRecord) -> bool:
        """Return whether the record's aggregate is parked."""
        return (record.key or b"").decode("utf-8", "replace") in self.aggregates

    @property
    def is_changed(self) -> bool:
        """True when an aggregate was parked, or another event is its first one, since `release`."""
        return bool(self._parked.changed)

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
                self._warnings.log(": redrives wait: %s", error)
            return
        self._store_is_away = False
        if was_away:
            self._warnings.log(": redrives wait no longer")

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
        return self._parked.records()

    async def release(self) -> None:
        parked = self._parked
        self._unnoted += parked.discarded
        self._uncopied = (self._uncopied | parked.new) - parked.ended
        parked.changed -= self._uncopied
        if not self._store_is_away:  # what is not copied now is at the next comparison
            with self._tolerating_absence():
                await self._copy()
                self._unnoted = []
                if self._uncopied and self._clock.steady() - self._copied_at >= COPY_INTERVAL:
                    await self._copy_new()
                if parked.ended:
                    await self._letters.unpark(self._role, parked.ended)
        self._warnings.log_saved(parked.ended)
        parked.forget()

    async def _copy_new(self) -> None:
        self._copied_at = self._clock.steady()
        await self._letters.park(self._parked.sorted_by_id(self._uncopied))
        self._uncopied = set()
