"""What the logs of a domain hold, as far as an audit must know it."""

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

NONE_KEPT = 2**63

Place = tuple[Position, int]


def place_of(event: EventRecord) -> Place:
    """Position and version: an event's place in the order of its partition."""
    return Position.parse(event.position or "0-0-0"), event.version


@dataclass
class TopicCopies:
    """How often each event of a domain is in one topic, and which are out of version order."""

    topic: str
    bounds: Mapping[int, Watermarks]
    ids: Counter[str] = field(default_factory=Counter)
    disorder: list[EventRecord] = field(default_factory=list)
    _versions: dict[str, int] = field(default_factory=dict)
    _floors: dict[tuple[int, int], Place] = field(default_factory=dict)

    def add(self, event: EventRecord, partition: int) -> None:
        place = place_of(event)
        self._floors.setdefault((partition, place[0].partition), place)
        self.ids[event.id] += 1
        if self.ids[event.id] == 1:
            if event.version <= self._versions.get(event.aggregate_id, 0):
                self.disorder.append(event)
            self._versions[event.aggregate_id] = event.version

    def judges(self, event: EventRecord, partition: int) -> bool:
        """Whether an event of this partition must be there: what came before may be gone.

        What is kept begins, for each source partition, with the first event that is there.
        """
        if not self.bounds.get(partition, Watermarks(0, 0)).oldest:
            return True
        place = place_of(event)
        floor = self._floors.get((partition, place[0].partition))
        return floor is not None and place >= floor


class DeadLetters:
    """The dead letters of a domain: which records of its logs they stand for."""

    def __init__(self, bounds: Mapping[int, Watermarks]) -> None:
        self.kinds: dict[str, str] = {}
        self._floors = {p: NONE_KEPT for p, limit in bounds.items() if limit.oldest}

    def add(self, record: LogRecord, source_topic: str) -> None:
        headers = dict(record.headers)
        source = headers.get(SOURCE, b"").decode(errors="replace")
        self.kinds[source] = headers.get(KIND, b"").decode(errors="replace")
        topic, _, offset = source.rpartition(f"/{record.partition}/")
        floor = self._floors.get(record.partition)
        if floor == NONE_KEPT and topic == source_topic and offset.isdecimal():
            self._floors[record.partition] = int(offset)

    def excuse(self, record: LogRecord) -> bool:
        """Whether there is one for the record, or may have been before the oldest kept."""
        if record.offset < self._floors.get(record.partition, 0):
            return True
        return f"{record.topic}/{record.partition}/{record.offset}" in self.kinds

    def count(self) -> tuple[int, int]:
        """How many records nobody could use, and how many were superseded."""
        superseded = sum(kind == SUPERSEDED for kind in self.kinds.values())
        return len(self.kinds) - superseded, superseded


class DecodedRecord(NamedTuple):
    """A committed record, with its event where it is one."""

    record: LogRecord
    event: EventRecord | None


async def read_events(
    reader: LogReader, topic: str, partition: int, bounds: Watermarks
) -> AsyncIterator[DecodedRecord]:
    """Each committed record of a partition within bounds."""
    if bounds.oldest >= bounds.end:
        return
    async for record in reader.read(topic, partition, bounds.oldest, bounds.end):
        try:
            yield DecodedRecord(record, decode(record.value))
        except InvalidRecord:
            yield DecodedRecord(record, None)


async def read_copies(
    reader: LogReader, domain: str, topic: str, bounds: Mapping[int, Watermarks]
) -> TopicCopies:
    """The events of a domain in a topic that may hold anything else, too."""
    copies = TopicCopies(topic, bounds)
    for partition, limit in bounds.items():
        async for _, event in read_events(reader, topic, partition, limit):
            if event and event.domain == domain and event.position:
                copies.add(event, partition)
    return copies


async def read_dead_letters(
    reader: LogReader, topic: str, bounds: Mapping[int, Watermarks], source_topic: str
) -> DeadLetters:
    """The dead letters of a domain, and for which records of `source_topic` they are complete."""
    letters = DeadLetters(bounds)
    for partition, limit in bounds.items():
        if limit.oldest < limit.end:
            async for record in reader.read(topic, partition, limit.oldest, limit.end):
                letters.add(record, source_topic)
    return letters
