"""What append is going to do for some records, if nobody else writes meanwhile. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import AssignPosition, Head, Write
from eventfleet.topics.dead_letters import SUPERSEDED, UNREADABLE
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord

UNPUT = "id: is that of no stored event; events of this domain are put by commands"
Letter = Callable[[LogRecord, str, str], ProducerRecord]
Heads = Mapping[str, Head]
Waiting = Mapping[str, list[EventRecord]]


class Item(Struct, frozen=True, gc=False):
    """One readable record of a chunk."""

    record: LogRecord
    event: EventRecord
    epoch: int

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.record.partition, self.record.offset)


def distinct_of(items: list[Item]) -> list[Item]:
    """Those that do not repeat one before them in event id, aggregate id and `prev`.

    The same event with another `prev` stays: the first may be superseded, and this one not.
    """
    if len({item.event.id for item in items}) == len(items):
        return items
    distinct: dict[tuple[str, str, str | None], Item] = {}
    for item in items:
        event = item.event
        distinct.setdefault((event.id, event.aggregate_id, event.prev), item)
    return [*distinct.values()]


def head_of(event: EventRecord) -> Head:
    """The head that an event with its position is."""
    return Head(event.version, event.id, event.version, event.type)


@dataclass(slots=True)
class ItemResult:
    """What one item comes to once its writes are done; the numbers are those of a Report."""

    emits: list[EventRecord] = field(default_factory=list)
    letters: list[ProducerRecord] = field(default_factory=list)
    stored: int = 0
    repeated: int = 0
    dead_letters: int = 0
    superseded: int = 0

    def count(self, report: ChunkReport) -> None:
        report.stored += self.stored
        report.repeated += self.repeated
        report.dead_letters += self.dead_letters
        report.superseded += self.superseded


class FastPlan:
    """The writes for new items of one partition, each right after its aggregate's latest event.

    Ends at the first `suspect`, if there is one: a synchronous put, or what may be a repeat or
    superseded. A repeat must not place the versions that wait below its aggregate's head either:
    they come later.
    """

    def __init__(self, items: Sequence[Item], heads: Heads) -> None:
        self.writes: list[EventRecord] = []
        self.suspect = False
        last: dict[str, EventRecord] = {}
        source = f"{items[0].epoch}-{items[0].record.partition}-"
        for item in items:
            event = item.event
            before = last.get(event.aggregate_id)
            if before is None:
                head = heads[event.aggregate_id]
                version, latest, waiting = head.version, head.event_id, head.placed < head.version
            else:
                version, latest, waiting = before.version, before.id, False
            astray = event.prev is not None and event.prev != latest
            if astray or event.version or waiting:
                self.suspect = True
                break
            position = f"{source}{item.record.offset}"
            placed = replace(event, version=version + 1, position=position)
            last[placed.aggregate_id] = placed
            self.writes.append(placed)
        self.heads = {key: head_of(event) for key, event in last.items()}

    @property
    def items(self) -> range:
        """For each write, the index of the item it is done for."""
        return range(len(self.writes))

    def told(
        self, done: int, letters: list[ProducerRecord], report: ChunkReport
    ) -> list[EventRecord]:
        """The events to emit once so many items are done; letters and counts are added."""
        report.stored += done
        return self.writes[:done]


class Plan:
    """The writes for a row of items, the outcome of each, and the heads after them.

    `heads`: those of the aggregates at hand. `found`: those stored already, of the items looked
    up. `waiting`: the unplaced events of these aggregates, lowest version first; the plan takes
    from these lists. `puts_only`: others are refused.
    """

    def __init__(
        self,
        items: Sequence[Item],
        heads: Heads,
        found: Mapping[str, EventRecord],
        waiting: Waiting,
        letter: Letter,
        *,
        puts_only: bool = False,
    ) -> None:
        self.writes: list[Write] = []
        self.items: list[int] = []  # for each write, the index of the item it is done for
        self.outcomes: list[ItemResult] = []
        self.heads: dict[str, Head] = {}
        self._inserted: dict[str, EventRecord] = {}
        self._known_heads, self._waiting, self._letter = heads, waiting, letter
        self._puts_only = puts_only
        for item in items:
            self.outcomes.append(ItemResult())
            known = found.get(item.event.id) or self._inserted.get(item.event.id)
            if known is None:
                self._add_new(item)
            else:
                self._add_known(item, known)

    def told(
        self, done: int, letters: list[ProducerRecord], report: ChunkReport
    ) -> list[EventRecord]:
        """As of Plain."""
        emits: list[EventRecord] = []
        for outcome in self.outcomes[:done]:
            emits += outcome.emits
            letters += outcome.letters
            outcome.count(report)
        return emits

    def _add_known(self, item: Item, known: EventRecord) -> None:
        outcome = self.outcomes[-1]
        if known.aggregate_id != item.event.aggregate_id:
            reason = f"id: is that of an event of {known.aggregate_id!r}"
            outcome.letters.append(self._letter(item.record, UNREADABLE, reason))
            outcome.dead_letters += 1
            return
        self._catch_up(known)
        if known.position == str(item.position):
            outcome.emits.append(known)
        elif any(event.id == known.id for event in self._waiting.get(known.aggregate_id, ())):
            self._place_upto(item, known.version)
        else:
            outcome.repeated += 1

    def _catch_up(self, known: EventRecord) -> None:
        """What another owner has placed is past our head: what follows it is judged by it."""
        if known.position and known.version > self._head(known.aggregate_id).version:
            self.heads[known.aggregate_id] = head_of(known)

    def _add_new(self, item: Item) -> None:
        event, outcome = item.event, self.outcomes[-1]
        if self._puts_only:
            outcome.letters.append(self._letter(item.record, UNREADABLE, UNPUT))
            outcome.dead_letters += 1
            return
        head = self._head(event.aggregate_id)
        if event.prev is not None and event.prev != head.event_id:
            reason = f"prev: is {event.prev!r}, the latest event is {head.event_id!r}"
            outcome.letters.append(self._letter(item.record, SUPERSEDED, reason))
            outcome.superseded += 1
            return
        self._place_upto(item, head.version)
        placed = replace(event, version=head.version + 1, position=str(item.position))
        self._write(placed)
        self._inserted[placed.id] = placed
        outcome.emits.append(placed)
        self.heads[event.aggregate_id] = head_of(placed)

    def _place_upto(self, item: Item, version: int) -> None:
        """Place the aggregate's unplaced events up to a version, lowest first, at this offset."""
        aggregate_id = item.event.aggregate_id
        waiting = self._waiting.get(aggregate_id, [])
        while waiting and waiting[0].version <= version:
            event = waiting.pop(0)
            self._write(AssignPosition(event, item.position))
            head = self._head(aggregate_id)
            if event.version >= head.version:
                self.heads[aggregate_id] = head_of(event)
            else:
                self.heads[aggregate_id] = head._replace(placed=event.version)

    def _write(self, write: Write) -> None:
        self.writes.append(write)
        self.items.append(len(self.outcomes) - 1)
        self.outcomes[-1].stored += 1

    def _head(self, aggregate_id: str) -> Head:
        return self.heads.get(aggregate_id) or self._known_heads[aggregate_id]
