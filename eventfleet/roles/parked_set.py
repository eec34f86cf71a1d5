"""ParkedSet: the parked aggregates of a role in a partition, and what has changed since a save.

It holds values alone: no store, no clock. Its keepers save what has changed, then `forget` it.
"""

from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from eventfleet.topics.codec import decode_stored
from eventfleet.topics.dead_letters import PARKED, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import (
    WAITING,
    Discard,
    DiscardedEvent,
    ParkedAggregate,
    behind_record,
    discarded_record,
    parked_record,
)
from eventfleet.topics.record import LogRecord, ProducerRecord


def rest_of(parked: ParkedAggregate, first: int) -> ParkedAggregate:
    """Return what is left of a parked aggregate from a version on, whose event is not known."""
    left = replace(parked, first=first, event_id="", event_type="")
    return replace(left, reason=WAITING, details="", attempts=0)


class ParkedSet:
    """The aggregates that a role parks in a partition.

    `discards` are the discarded events, by aggregate and version. Since the last save `changed`
    aggregates have another first event, `new` ones among them were not parked before, `longer` ones
    have more events behind it, and `ended` ones are parked no longer.
    """

    def __init__(self, topics: Topics, role: str, partition: int) -> None:
        self._topics, self._role, self._partition = topics, role, partition
        self.aggregates: dict[str, ParkedAggregate] = {}
        self.discards: set[tuple[str, int]] = set()
        self.changed: set[str] = set()
        self.new: set[str] = set()
        self.longer: set[str] = set()
        self.ended: set[str] = set()
        self.discarded: list[DiscardedEvent] = []
        self._reparked: set[str] = set()  # ended, and parked again
        self._unlettered: set[str] = set()  # new ones without a dead letter yet
        self._unlogged: set[str] = set()  # parked before; the log may not have them

    def load(self, parked: Iterable[ParkedAggregate], discarded: Iterable[DiscardedEvent]) -> None:
        """Begin with what is saved."""
        self.correct(parked)
        self.discards.clear()
        self.discards.update((each.aggregate_id, each.version) for each in discarded)
        self.forget()

    def correct(self, parked: Iterable[ParkedAggregate]) -> None:
        """Have these in place of all, as they are saved."""
        aggregates = {each.aggregate_id: each for each in parked}
        self.aggregates.clear()
        self.aggregates.update(aggregates)

    def forget(self) -> None:
        """Forget the changes: they are saved."""
        for each in (self.changed, self.new, self.longer, self.ended, self._reparked):
            each.clear()
        self.discarded.clear()
        self._unlettered.clear()
        self._unlogged.clear()

    def log_again(self) -> None:
        """Have the next records tell of all that is parked, changed or not."""
        self._unlogged = {*self.aggregates}

    def put(self, parked: ParkedAggregate) -> None:
        """Park an aggregate, or park it at another first event."""
        key = parked.aggregate_id
        if key not in self.aggregates:
            self.new.add(key)
            self._unlettered.add(key)
        self.aggregates[key] = parked
        self.changed.add(key)
        if key in self.ended:
            self.ended.remove(key)
            self._reparked.add(key)

    def put_behind(self, aggregate_id: str, version: int) -> None:
        """Park an event of a parked aggregate. One that is parked already changes nothing."""
        parked = self.aggregates[aggregate_id]
        if version > parked.last:
            self.aggregates[aggregate_id] = replace(parked, last=version)
            self.longer.add(aggregate_id)

    def discard_first(self, aggregate_id: str, discard: Discard) -> None:
        """Note that the first parked event of an aggregate is discarded; it stays parked."""
        parked = self.aggregates[aggregate_id]
        event = DiscardedEvent(self._role, aggregate_id, parked.first, parked.event_id, discard)
        self.discarded.append(event)
        self.discards.add((aggregate_id, parked.first))

    def end(self, aggregate_id: str, up_to: int) -> bool:
        """End the parking of events up to a version; return whether none is behind it."""
        parked = self.aggregates[aggregate_id]
        if up_to < parked.last:
            self.put(rest_of(parked, up_to + 1))
            return False
        del self.aggregates[aggregate_id]
        for each in (self.changed, self.new, self.longer, self._unlettered):
            each.discard(aggregate_id)
        self.ended.add(aggregate_id)
        return True

    def sorted_by_id(self, aggregate_ids: Iterable[str]) -> list[ParkedAggregate]:
        """Return these parked aggregates, in order."""
        return [self.aggregates[key] for key in sorted(aggregate_ids)]

    # Records

    def records(self) -> list[ProducerRecord]:
        """Make the records of what was parked, ended and discarded since."""
        if not (self.changed or self.longer or self.ended or self.discarded or self._unlogged):
            return []
        place, parked = (self._topics.parked, self._role, self._partition), self.aggregates
        changed = self.changed | (self._unlogged & parked.keys())
        longer, ended = self.longer - self.changed, sorted(self.ended)
        return [
            *(
                parked_record(*place, each.aggregate_id, each)
                for each in self.sorted_by_id(changed)
            ),
            *(behind_record(*place, key, parked[key].last) for key in sorted(longer)),
            *(parked_record(*place, key, None) for key in ended),
            *(behind_record(*place, key, None) for key in sorted(self.ended | self._reparked)),
            *self.discard_records(),
        ]

    def discard_records(self) -> list[ProducerRecord]:
        place = self._topics.parked, self._partition
        return [discarded_record(*place, each) for each in self.discarded]

    def dead_letters(self, records: Iterable[LogRecord]) -> list[ProducerRecord]:
        """Make the dead letters of what was parked since: those of its first events among these."""
        if not self._unlettered:
            return []
        keys = {aggregate_id.encode() for aggregate_id in self._unlettered}
        theirs = [record for record in records if record.key in keys]
        return [letter for record in theirs if (letter := self._letter(record))]

    def _letter(self, record: LogRecord) -> ProducerRecord | None:
        aggregate_id = (record.key or b"").decode()
        if aggregate_id not in self._unlettered:
            return None
        parked = self.aggregates[aggregate_id]
        with suppress(InvalidRecord):
            if decode_stored(record.value).version == parked.first:
                self._unlettered.discard(aggregate_id)
                what = PARKED, parked.reason, parked.details
                return make_dead_letter(self._topics.dead_letters, self._role, record, *what)
        return None
