"""What the logs of a domain hold, as far as an audit must know it."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from stores.contracts import Bounds, LogReader
from topics.codec import decode
from topics.dead_letters import KIND, SOURCE, SUPERSEDED
from topics.errors import Unreadable
from topics.event import EventRecord, Position
from topics.record import LogRecord


@dataclass
class Emitted:
    """The copies of a domain's events in one topic, from one source partition of `.events`.

    `floor` is None where the log is kept from its beginning; else nothing before it can be judged.
    """

    ids: Counter[str] = field(default_factory=Counter)
    versions: dict[str, int] = field(default_factory=dict)
    disorder: list[EventRecord] = field(default_factory=list)
    floor: Position | None = None

    def add(self, event: EventRecord) -> None:
        self.ids[event.id] += 1
        if self.ids[event.id] == 1:
            if event.version <= self.versions.get(event.aggregate_id, 0):
                self.disorder.append(event)
            self.versions[event.aggregate_id] = event.version

    def judges(self, event: EventRecord) -> bool:
        if self.floor is None:
            return True
        return bool(event.position) and Position.parse(event.position or "") >= self.floor


UNKNOWN = Position(2**31, 0, 0)


async def read_partition(
    reader: LogReader, topic: str, partition: int, bounds: Bounds
) -> AsyncIterator[tuple[LogRecord, EventRecord | None]]:
    """Each committed record with its event; None for one that is not an event."""
    async for record in reader.read(topic, partition, bounds.oldest, bounds.end):
        try:
            yield record, decode(record.value)
        except Unreadable:
            yield record, None


async def read_emitted(
    reader: LogReader, domain: str, topic: str, partition: int, bounds: Bounds
) -> dict[int, Emitted]:
    """The events of a domain in one partition of a topic, by source partition."""
    found: dict[int, Emitted] = {}
    async for _, event in read_partition(reader, topic, partition, bounds):
        if event is None or event.domain != domain or event.position is None:
            continue
        position = Position.parse(event.position)
        if position.partition not in found:
            floor = position if bounds.oldest else None
            found[position.partition] = Emitted(floor=floor)
        found[position.partition].add(event)
    return found


async def read_dead_letters(
    reader: LogReader, topic: str, bounds: dict[int, Bounds]
) -> dict[str, str]:
    """Kind by source coordinates, `topic/partition/offset`."""
    kinds: dict[str, str] = {}
    for partition, limit in bounds.items():
        async for record in reader.read(topic, partition, limit.oldest, limit.end):
            headers = dict(record.headers)
            source = headers.get(SOURCE, b"").decode()
            kinds[source] = headers.get(KIND, b"").decode()
    return kinds


def count_kinds(kinds: dict[str, str]) -> tuple[int, int]:
    """How many records nobody could use, and how many were superseded."""
    superseded = sum(kind == SUPERSEDED for kind in kinds.values())
    return len(kinds) - superseded, superseded
