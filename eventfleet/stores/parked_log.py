"""The reader of `<domain>.parked`, which has what roles park and what operators discarded."""

from collections.abc import AsyncIterator

from msgspec.structs import replace

from eventfleet.stores import registry_facts
from eventfleet.stores.contracts import LogReader, RegistryFacts
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.errors import TopicRefused
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import (
    DiscardedEvent,
    ParkedAggregate,
    ParkedBehind,
    ParkedEntry,
    ParkedEvent,
    is_parked_event,
    read_parked,
)
from eventfleet.topics.record import LogRecord


class TopicParkedLog:
    """Reads the partitions of a domain's topic."""

    def __init__(self, topics: Topics, reader: LogReader) -> None:
        self._topics, self._reader = topics, reader

    async def load(self, role: str, partition: int) -> ParkedEntries:
        """Read what is committed of a role; the reader waits for open transactions of other roles.

        The caller has fenced the owners before it: so nothing more of them will come. TopicRefused:
        the topic does not exist.
        """
        return (await self.load_all(partition)).get(role, ParkedEntries([], []))

    async def load_all(self, partition: int) -> dict[str, ParkedEntries]:
        """Read what is committed, by role. TopicRefused: the topic does not exist."""
        found: dict[str, ParkedEntry] = {}
        async for record in self._read(partition):
            if not is_parked_event(record):
                key, entry = read_parked(record)
                found.pop(key, None)
                if entry is not None:
                    found[key] = entry
        entries = [*found.values()]
        roles = sorted({each.role for each in entries})
        return {role: entries_of([e for e in entries if e.role == role]) for role in roles}

    async def registry_facts(self) -> RegistryFacts | None:
        """Return the copy of the store's registry; None: there is none."""
        found = None
        async for record in self._read(registry_facts.PARTITION):
            found = registry_facts.read_registry_facts(record) or found
        return found

    async def parked_events(self, partition: int) -> AsyncIterator[EventRecord]:
        """Stream the events that append parks; their keys alone are kept in memory."""
        last: dict[bytes | None, int] = {}
        async for record in self._read(partition):
            if is_parked_event(record):
                last.pop(record.key, None)
                if record.value is not None:
                    last[record.key] = record.offset
        offsets = {*last.values()}
        async for record in self._read(partition):
            if record.offset in offsets:
                _, entry = read_parked(record)
                if isinstance(entry, ParkedEvent):
                    yield entry.event

    async def _read(self, partition: int) -> AsyncIterator[LogRecord]:
        topic = self._topics.parked
        watermarks = (await self._reader.watermarks(topic)).get(partition)
        if watermarks is None:
            raise TopicRefused(
                f"topic {topic} does not exist: eventfleet topics create {self._topics.domain}"
            )
        async for record in self._reader.read(topic, partition, 0, watermarks.end):
            yield record


def entries_of(entries: list[ParkedEntry]) -> ParkedEntries:
    behind = {each.aggregate_id: each.last for each in entries if isinstance(each, ParkedBehind)}
    return ParkedEntries(
        [
            replace(each, last=max(each.last, behind.get(each.aggregate_id, 0)))
            for each in entries
            if isinstance(each, ParkedAggregate)
        ],
        [each for each in entries if isinstance(each, DiscardedEvent)],
    )
