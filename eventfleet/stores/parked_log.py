"""The reader of `<domain>.parked`, which has what relay and project park."""

from msgspec.structs import replace

from eventfleet.stores.contracts import LogReader
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.errors import TopicRefused
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import (
    DiscardedEvent,
    ParkedAggregate,
    ParkedBehind,
    ParkedEntry,
    read_parked,
)


class TopicParkedLog:
    """Reads a role's parked aggregates from the topic."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def load(self, domain: str, role: str, partition: int) -> ParkedEntries:
        """Read what is committed; the reader waits for open transactions of other roles.

        The caller has fenced the owners before it: so nothing more of them will come. TopicRefused:
        the topic does not exist.
        """
        topic = Topics.of(domain).parked
        watermarks = (await self._reader.watermarks(topic)).get(partition)
        if watermarks is None:
            raise TopicRefused(f"topic {topic} does not exist: eventfleet topics create {domain}")
        found: dict[str, ParkedEntry] = {}
        async for record in self._reader.read(topic, partition, 0, watermarks.end):
            key, entry = read_parked(record)
            if entry is None:
                found.pop(key, None)
            elif entry.role == role:
                found[key] = entry
        entries = found.values()
        behind = {
            each.aggregate_id: each.last for each in entries if isinstance(each, ParkedBehind)
        }
        return ParkedEntries(
            [
                replace(each, last=max(each.last, behind.get(each.aggregate_id, 0)))
                for each in entries
                if isinstance(each, ParkedAggregate)
            ],
            [each for each in entries if isinstance(each, DiscardedEvent)],
        )
