"""The contents of a domain's topics, as far as an audit needs them."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from eventfleet.stores.contracts import LogReader, Watermarks
from eventfleet.topics.codec import decode
from eventfleet.topics.dead_letters import KIND, SOURCE, SUPERSEDED
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord

NO_FLOOR_YET = 2**63
"""Above every offset."""

OrderKey = tuple[Position, int]


def order_key(event: EventRecord) -> OrderKey:
    """Return position and version, the place of an event in its partition's order."""
    return Position.parse(event.position or "0-0-0"), event.version


@dataclass
class TopicCopies:
    """The copies of a domain's events in one topic: their numbers, and those out of order."""

    topic: str
    watermarks: Mapping[int, Watermarks]
    ids: Counter[str] = field(default_factory=Counter)
    out_of_order: list[EventRecord] = field(default_factory=list)
    _versions: dict[str, int] = field(default_factory=dict)
    _floors: dict[tuple[int, int], OrderKey] = field(default_factory=dict)

    def add(self, event: EventRecord, partition: int) -> None:
        """Count a copy in one of the topic's partitions; copies come in the order of the log."""
        key = order_key(event)
        self._floors.setdefault((partition, key[0].partition), key)
        self.ids[event.id] += 1
        if self.ids[event.id] == 1:
            if event.version <= self._versions.get(event.aggregate_id, 0):
                self.out_of_order.append(event)
            self._versions[event.aggregate_id] = event.version

    def must_have(self, event: EventRecord, partition: int) -> bool:
        """Return whether a partition must still have a copy of an event that belongs there.

        A partition that no longer keeps its oldest records must have, of each source partition, the
        events from the first copy on.
        """
        if not self.watermarks.get(partition, Watermarks(0, 0)).oldest:
            return True
        key = order_key(event)
        floor = self._floors.get((partition, key[0].partition))
        return floor is not None and key >= floor


class DeadLetters:
    """The dead letters of a domain, and the records that they stand for."""

    def __init__(self, watermarks: Mapping[int, Watermarks]) -> None:
        self.kinds: dict[str, str] = {}
        self._floors = {p: NO_FLOOR_YET for p, marks in watermarks.items() if marks.oldest}

    def add(self, record: LogRecord, source_topic: str) -> None:
        """Add a dead letter; dead letters come in the order of the log."""
        headers = dict(record.headers)
        source = headers.get(SOURCE, b"").decode(errors="replace")
        self.kinds[source] = headers.get(KIND, b"").decode(errors="replace")
        topic, _, offset = source.rpartition(f"/{record.partition}/")
        floor = self._floors.get(record.partition)
        if floor == NO_FLOOR_YET and topic == source_topic and offset.isdecimal():
            self._floors[record.partition] = int(offset)

    def covers(self, record: LogRecord) -> bool:
        """Return whether the record has a dead letter, or may have had one that is kept no more."""
        if record.offset < self._floors.get(record.partition, 0):
            return True
        return f"{record.topic}/{record.partition}/{record.offset}" in self.kinds

    def count(self) -> tuple[int, int]:
        """Count the unreadable and the superseded records."""
        superseded = sum(kind == SUPERSEDED for kind in self.kinds.values())
        return len(self.kinds) - superseded, superseded


class DecodedRecord(NamedTuple):
    """A committed record, and its event (None: it is not an event)."""

    record: LogRecord
    event: EventRecord | None


async def read_events(
    reader: LogReader, topic: str, partition: int, marks: Watermarks
) -> AsyncIterator[DecodedRecord]:
    """Stream a partition's committed records between the watermarks."""
    if marks.oldest >= marks.end:
        return
    async for record in reader.read(topic, partition, marks.oldest, marks.end):
        try:
            yield DecodedRecord(record, decode(record.value))
        except InvalidRecord:
            yield DecodedRecord(record, None)


async def read_copies(
    reader: LogReader, domain: str, topic: str, watermarks: Mapping[int, Watermarks]
) -> TopicCopies:
    """Count the copies of a domain's events in a topic, which may have any other records, too."""
    copies = TopicCopies(topic, watermarks)
    for partition, marks in watermarks.items():
        async for _, event in read_events(reader, topic, partition, marks):
            if event and event.domain == domain and event.position:
                copies.add(event, partition)
    return copies


async def read_dead_letters(
    reader: LogReader, topic: str, watermarks: Mapping[int, Watermarks], source_topic: str
) -> DeadLetters:
    """Read a domain's dead letters, and how far back they are complete for `source_topic`."""
    dead_letters = DeadLetters(watermarks)
    for partition, marks in watermarks.items():
        if marks.oldest < marks.end:
            async for record in reader.read(topic, partition, marks.oldest, marks.end):
                dead_letters.add(record, source_topic)
    return dead_letters
