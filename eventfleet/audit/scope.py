"""The scope of an audit: how far each log reaches back and each role has come."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from eventfleet.audit.repairs import Repairs
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import LogReader, Watermarks
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.event import Position
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.topics.parked import DiscardedEvent, ParkedAggregate
from eventfleet.topics.partitioner import partition_of

STORED = 0
"""The number of `<domain>.stored` among the topics of copies; the routes' follow it."""
NOTHING_KEPT = Watermarks(0, 0)

OrderKey = tuple[Position, int]
Marks = Mapping[int, Watermarks]


@dataclass
class AuditScope:
    """The watermarks of each topic, the offsets that roles have committed, and the epochs.

    `appended`: by partition, what append has committed of `<domain>.events`; `relayed`: what relay
    has of `<domain>.stored`. Positions from `first_epoch` on are in the present log. `copies`: the
    topics that have copies of events. `floors`: of a topic's partition and a source partition, the
    first copy that is kept, but for redriven ones, which come late. `dead_letter_floors`: by
    partition, the first offset of the log whose dead letter would still be kept. `parked`: by
    aggregate, what relay parks. `discarded`: the aggregate and version of each event that it passes
    over.
    """

    topics: Topics
    copies: Sequence[str]
    repairs: Repairs
    exactly_once: bool
    epoch: int = 0
    appended: dict[int, int] = field(default_factory=dict)
    relayed: dict[int, int] = field(default_factory=dict)
    watermarks: dict[str, dict[int, Watermarks]] = field(default_factory=dict)
    floors: dict[tuple[int, int, int], OrderKey] = field(default_factory=dict)
    dead_letter_floors: dict[int, int] = field(default_factory=dict)
    parked: dict[str, ParkedAggregate] = field(default_factory=dict)
    discarded: set[tuple[str, int]] = field(default_factory=set)

    @classmethod
    async def read(
        cls,
        domain: Domain[Any],
        reader: LogReader,
        prefix: str,
        repairs: Repairs,
        *,
        exactly_once: bool,
        epoch: int,
    ) -> "AuditScope":
        """Read it in the order that makes later reads complete.

        A reply comes after its event, and a commit after what it vouches for: so the ends of
        replies and the committed offsets are read before the ends of the logs. What is parked is
        read after the offset that moved with it, and before what a redrive adds to the routes.
        """
        topics, routes = domain.topics, domain.targets
        scope = cls(topics, [topics.stored, *routes], repairs, exactly_once, epoch)
        scope.watermarks[topics.replies] = await reader.watermarks(topics.replies)
        relay, append = (consumer_group(prefix, domain.name, r) for r in ("relay", "append"))
        scope.relayed = await reader.committed(relay, topics.stored)
        scope.appended = await reader.committed(append, topics.events)
        await scope._read_parked(reader)
        others = {*topics, *routes} - {topics.replies}
        for topic in sorted(others):
            scope.watermarks[topic] = await reader.watermarks(topic)
        return scope

    async def _read_parked(self, reader: LogReader) -> None:
        log = TopicParkedLog(self.topics, reader)
        for partition in await reader.watermarks(self.topics.parked):
            parked, discarded = await log.load("relay", partition)
            self.parked |= {each.aggregate_id: each for each in parked}
            self.discarded |= {(each.aggregate_id, each.version) for each in discarded}

    def add_discarded(self, events: Iterable[DiscardedEvent]) -> None:
        """Add events that append has placed as discarded: relay passes over them."""
        self.discarded |= {(each.aggregate_id, each.version) for each in events}

    def waits(self, aggregate_id: str, version: int) -> bool:
        """Return whether relay parks this event."""
        parked = self.parked.get(aggregate_id)
        return parked is not None and parked.first <= version <= parked.last

    @cached_property
    def first_epoch(self) -> int:
        """The first epoch of the present log."""
        return self.repairs.first_epoch(self.epoch)

    def missing_topics(self) -> list[str]:
        """Return the topics that do not exist."""
        return sorted(topic for topic, marks in self.watermarks.items() if not marks)

    def records(self) -> int:
        """Return about how many records the topics keep."""
        return sum(m.end - m.oldest for marks in self.watermarks.values() for m in marks.values())

    def is_appended(self, partition: int, offset: int) -> bool:
        """Return whether append has committed past an offset of the log."""
        return offset < self.appended.get(partition, 0)

    def keeps_record(self, position: Position) -> bool:
        """Return whether the present log must have a record at this position."""
        if position.epoch < self.first_epoch:
            return False
        marks = self.watermarks[self.topics.events].get(position.partition, NOTHING_KEPT)
        return marks.oldest <= position.offset < marks.end

    def keeps_dead_letter(self, partition: int, offset: int) -> bool:
        """Return whether a dead letter of this record would still be kept."""
        return offset >= self.dead_letter_floors.get(partition, 0)

    def keeps_copy(self, topic: int, aggregate_id: str, position: Position, version: int) -> bool:
        """Return whether a topic must still have a copy of an event that belongs there.

        A partition that no longer keeps its oldest records must have, of each source partition, the
        events from the first copy on; so too where the log was made anew after the event.
        """
        marks = self.watermarks[self.copies[topic]]
        partition = (
            position.partition if topic == STORED else partition_of(aggregate_id, len(marks))
        )
        oldest = marks.get(partition, NOTHING_KEPT).oldest
        if not oldest and position.epoch >= self.first_epoch:
            return True
        floor = self.floors.get((topic, partition, position.partition))
        return floor is not None and (position, version) >= floor
