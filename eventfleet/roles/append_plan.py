"""The writes that append plans for some records, assuming that nobody else writes. No I/O.

An event that can't be placed is stored all the same, with the version that it would have: parked,
as are those behind it. Its chain stands, nobody reads it, and a redriven copy of its record places
it. A plan decides on one parked event of an aggregate at most: what becomes of the next one is
known once that is done, since another owner may have refused it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import (
    AssignPosition,
    Head,
    ParkEvent,
    PlaceParked,
    RefuseParked,
    Write,
)
from eventfleet.topics.dead_letters import SUPERSEDED, UNREADABLE
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord

NOT_STORED = "id: is that of no stored event; events of this domain are put by commands"

MakeDeadLetter = Callable[[LogRecord, str, str], ProducerRecord]
Found = dict[EventKey, EventRecord]
Heads = Mapping[str, Head]
Unplaced = Mapping[str, list[EventRecord]]


class AppendItem(Struct, frozen=True, gc=False):
    """A readable record of a chunk; with a `fault`, only its envelope is.

    `redriven`: append has written it itself, to have a parked event tried again.
    """

    record: LogRecord
    event: EventRecord
    epoch: int
    fault: Exception | None = None
    redriven: bool = False

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.record.partition, self.record.offset)


class ParkedItem(NamedTuple):
    """An event that is parked now, or was before; its record; and what it failed at, if it did."""

    event: EventRecord
    record: LogRecord
    fault: Exception | None


@dataclass(slots=True)
class AppendResult:
    """The outcome of a chunk so far: events to emit, what is parked, the redriven items on which a
    write has decided, dead letters, counts."""

    emits: list[EventRecord] = field(default_factory=list)
    parked: list[ParkedItem] = field(default_factory=list)
    decided: list[AppendItem] = field(default_factory=list)
    dead_letters: list[ProducerRecord] = field(default_factory=list)
    report: ChunkReport = field(default_factory=ChunkReport)


@dataclass(slots=True)
class ItemResult:
    """The outcome of one item once its writes are done; the numbers are those of a ChunkReport."""

    emits: list[EventRecord] = field(default_factory=list)
    parked: list[ParkedItem] = field(default_factory=list)
    decided: list[AppendItem] = field(default_factory=list)
    dead_letters: list[ProducerRecord] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    unreadable: int = 0
    superseded: int = 0

    def add_to(self, result: AppendResult) -> None:
        result.emits += self.emits
        result.parked += self.parked
        result.decided += self.decided
        result.dead_letters += self.dead_letters
        result.report.stored += self.stored
        result.report.repeated += self.repeated
        result.report.dead_letters += self.unreadable
        result.report.superseded += self.superseded


def distinct(items: list[AppendItem]) -> list[AppendItem]:
    """Drop the items that repeat an earlier one in event id, aggregate id and `prev`.

    The same event with another `prev` stays: the first may be superseded, and this one not. So does
    a redriven one behind the record that it was parked for.
    """
    if len({item.event.id for item in items}) == len(items):
        return items
    found: dict[tuple[str, str, str | None, bool], AppendItem] = {}
    for item in items:
        event = item.event
        found.setdefault((event.id, event.aggregate_id, event.prev, item.redriven), item)
    return [*found.values()]


def before_next_decision(items: Sequence[AppendItem]) -> Sequence[AppendItem]:
    """Return the first items, up to one whose aggregate has a redriven event among them."""
    if True not in {item.redriven for item in items}:
        return items
    decided: set[str] = set()
    for index, item in enumerate(items):
        if item.event.aggregate_id in decided:
            return items[:index]
        if item.redriven:
            decided.add(item.event.aggregate_id)
    return items


def head_of(event: EventRecord) -> Head:
    """The head of an aggregate whose latest event is this one, which has its position."""
    return Head(event.version, event.id, event.version, event.type)


def after_placing(head: Head, event: EventRecord) -> Head:
    """Return the head of an aggregate of which an event that was put is placed."""
    return head_of(event) if event.version >= head.version else head._replace(placed=event.version)


def with_placed(head: Head, version: int) -> Head:
    """Return the head of an aggregate of which a parked event is placed."""
    return head._replace(placed=version, parked=version < head.version)


class FastPlan:
    """The inserts of new events, each right after its aggregate's latest one: placed, or parked.

    The plan ends at the first `suspect`, if there is one: an event that carries a version, may be
    a repeat or superseded, is redriven, or whose aggregate has unplaced events that are not parked.
    Then a Plan is needed.
    """

    def __init__(self, items: Sequence[AppendItem], heads: Heads) -> None:
        self.writes: list[EventRecord | ParkEvent] = []
        self.suspect = False
        self._parked: dict[int, ParkedItem] = {}  # by the index of the item
        placed_upto: dict[str, int] = {}  # of parked aggregates
        last: dict[str, EventRecord] = {}
        source = f"{items[0].epoch}-{items[0].record.partition}-"
        # This loop runs for every event of a load: locals, and no object but the event itself.
        for item in items:
            event = item.event
            before = last.get(event.aggregate_id)
            if before is None:
                head = heads[event.aggregate_id]
                version, latest, unplaced = head.version, head.event_id, head.placed < head.version
            else:
                version, latest, unplaced = before.version, before.id, before.position is None
            not_next = event.prev is not None and event.prev != latest
            if not_next or event.version or item.redriven:
                self.suspect = True
                break
            if unplaced or item.fault:
                if before is None and unplaced and not head.parked:
                    self.suspect = True
                    break
                placed_upto.setdefault(event.aggregate_id, head.placed if unplaced else version)
                parked = replace(event, version=version + 1)
                last[event.aggregate_id] = parked
                self._parked[len(self.writes)] = ParkedItem(parked, item.record, item.fault)
                self.writes.append(ParkEvent(parked, item.position))
                continue
            position = f"{source}{item.record.offset}"
            placed = replace(event, version=version + 1, position=position)
            last[placed.aggregate_id] = placed
            self.writes.append(placed)
        self.heads = {
            key: head_of(event)
            if event.position
            else Head(event.version, event.id, placed_upto[key], event.type, True)
            for key, event in last.items()
        }
        self.items = range(len(self.writes))  # for each write, the index of its item

    def apply(self, done: int, result: AppendResult) -> None:
        """Add the outcome of the first `done` items, whose writes are done."""
        emits = [write for write in self.writes[:done] if type(write) is EventRecord]
        result.emits += emits
        result.parked += [item for index, item in self._parked.items() if index < done]
        result.report.stored += len(emits)


class PlacingPlan:
    """The places of events that were put, each right after its aggregate's last placed one.

    It ends at the first `suspect`, if there is one: an event that is not stored, is placed, or has
    unplaced ones before it that no item places. Then a Plan is needed.
    """

    def __init__(self, items: Sequence[AppendItem], heads: Heads, found: Found) -> None:
        self.writes: list[AssignPosition] = []
        self.suspect = False
        self.heads: dict[str, Head] = {}
        for item in items:
            event, aggregate_id = found.get(item.event.key), item.event.aggregate_id
            head = self.heads.get(aggregate_id) or heads[aggregate_id]
            if event is None or event.position or event.version != head.placed + 1:
                self.suspect = True
                break
            self.heads[aggregate_id] = after_placing(head, event)
            self.writes.append(AssignPosition(event, item.position))
        self.items = range(len(self.writes))

    def apply(self, done: int, result: AppendResult) -> None:
        """Add the outcome of the first `done` items, whose writes are done."""
        result.emits += [write.event for write in self.writes[:done]]
        result.report.stored += done


class Plan:
    """The writes for some items, the outcome of each item, and the heads after the writes.

    `heads`: the heads of the items' aggregates. `found`: the stored events among those looked up.
    `unplaced`: these aggregates' unplaced events, lowest version first; the plan takes from these
    lists. `stored_only`, for synchronous domains: any event that is not stored is a dead letter.
    """

    def __init__(
        self,
        items: Sequence[AppendItem],
        heads: Heads,
        found: Found,
        unplaced: Unplaced,
        make_dead_letter: MakeDeadLetter,
        *,
        stored_only: bool = False,
    ) -> None:
        self.writes: list[Write] = []
        self.items: list[int] = []  # for each write, the index of its item
        self.results: list[ItemResult] = []
        self.heads: dict[str, Head] = {}
        self._inserted: Found = {}
        self._known_heads, self._unplaced = heads, unplaced
        self._make_dead_letter, self._stored_only = make_dead_letter, stored_only
        for item in items:
            self.results.append(ItemResult())
            known = found.get(item.event.key) or self._inserted.get(item.event.key)
            if known is not None:
                self._add_known(item, known)
            elif stored_only:
                self._refuse(item, NOT_STORED)
            else:
                self._add_new(item)

    def apply(self, done: int, result: AppendResult) -> None:
        """Add the outcome of the first `done` items, whose writes are done."""
        for item_result in self.results[:done]:
            item_result.add_to(result)

    def _add_known(self, item: AppendItem, known: EventRecord) -> None:
        """Emit or place a stored event; any other is a repeat."""
        self._catch_up(known)
        if known.position == str(item.position):
            self.results[-1].emits.append(known)
        elif any(event.id == known.id for event in self._unplaced.get(known.aggregate_id, ())):
            self._place_upto(item, known.version)
        elif known.position is None and not self._stored_only:
            self._add_parked(item, known)
        else:
            self.results[-1].repeated += 1

    def _add_parked(self, item: AppendItem, known: EventRecord) -> None:
        """Decide on a parked event, if this is its redriven record: the first may be placed.

        What is not placed is refused, so that no earlier owner, for whom it may be the first one by
        now, places it at an offset that is passed.
        """
        if not item.redriven:
            self.results[-1].parked.append(ParkedItem(known, item.record, item.fault))
            self.results[-1].repeated += 1
            return
        is_first = known.version == self._head(known.aggregate_id).placed + 1
        placed = is_first and (known.discarded or not item.fault)
        self._write((PlaceParked if placed else RefuseParked)(known, item.position))
        self.results[-1].decided.append(item)

    def _add_new(self, item: AppendItem) -> None:
        """Insert an event after its aggregate's head, unless it was superseded.

        One that has a fault is parked, and so is each behind a parked one.
        """
        event, head = item.event, self._head(item.event.aggregate_id)
        if event.prev is not None and event.prev != head.event_id:
            self._supersede(item, head)
            return
        if item.fault or head.parked:
            self._park(item, replace(event, version=head.version + 1))
            return
        placed = replace(event, version=head.version + 1, position=str(item.position))
        self._write(placed)
        self._inserted[placed.key] = placed
        self.results[-1].emits.append(placed)
        self.heads[event.aggregate_id] = head_of(placed)

    def _park(self, item: AppendItem, parked: EventRecord) -> None:
        self._write(ParkEvent(parked, item.position))
        self._inserted[parked.key] = parked
        self.results[-1].parked.append(ParkedItem(parked, item.record, item.fault))
        self._move_to_parked(parked)

    def _place_upto(self, item: AppendItem, version: int) -> None:
        """Place the aggregate's unplaced events up to a version, lowest first, at this offset."""
        aggregate_id = item.event.aggregate_id
        unplaced = self._unplaced.get(aggregate_id, [])
        while unplaced and unplaced[0].version <= version:
            event = unplaced.pop(0)
            self._write(AssignPosition(event, item.position))
            self.results[-1].emits.append(event)
            self.heads[aggregate_id] = after_placing(self._head(aggregate_id), event)

    def _catch_up(self, known: EventRecord) -> None:
        """Move the head to what another owner has done: what follows comes after it."""
        head = self._head(known.aggregate_id)
        if known.position and known.version > head.version:
            self.heads[known.aggregate_id] = head_of(known)
        elif known.position and head.parked and known.version > head.placed:
            self.heads[known.aggregate_id] = with_placed(head, known.version)
        elif not known.position and not self._stored_only and known.version > head.version:
            self._move_to_parked(known)

    def _move_to_parked(self, event: EventRecord) -> None:
        placed = self._head(event.aggregate_id).placed
        self.heads[event.aggregate_id] = Head(event.version, event.id, placed, event.type, True)

    def _write(self, write: Write) -> None:
        self.writes.append(write)
        self.items.append(len(self.results) - 1)
        self.results[-1].stored += isinstance(write, EventRecord | AssignPosition)

    def _head(self, aggregate_id: str) -> Head:
        return self.heads.get(aggregate_id) or self._known_heads[aggregate_id]

    def _refuse(self, item: AppendItem, reason: str) -> None:
        result = self.results[-1]
        result.dead_letters.append(self._make_dead_letter(item.record, UNREADABLE, reason))
        result.unreadable += 1

    def _supersede(self, item: AppendItem, head: Head) -> None:
        reason = f"prev: is {item.event.prev!r}, the latest event is {head.event_id!r}"
        result = self.results[-1]
        result.dead_letters.append(self._make_dead_letter(item.record, SUPERSEDED, reason))
        result.superseded += 1


AnyPlan = Plan | FastPlan | PlacingPlan
