"""Contracts of the log: writers, reader, admin."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from eventfleet.topics.event import Position
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec


class Watermarks(NamedTuple):
    """The oldest offset that a partition still keeps, and the offset after its last record."""

    oldest: int
    end: int


class TopicState(NamedTuple):
    """A topic as a broker tells of it: its `id` ("": unknown), the number of its partitions (0: it
    does not exist; None: unknown), and which of the rights Describe, Read, Write the user lacks."""

    id: str
    partitions: int | None
    lacks: frozenset[str] = frozenset()


class PartitionWriter(Protocol):
    """The sole right of a group's member to consume a source partition and write what results."""

    async def open(self) -> int | None:
        """Fence every earlier owner, then return the group's committed offset; None if it has none.

        After any error but Fenced it may be called again, to continue from what is committed.
        """

    async def watermarks(self) -> Watermarks:
        """Return the source partition's watermarks; callable once `open` has returned.

        While a new leader of the partition may still count its end too low, it is asked again: an
        end below the committed offset is that of a truncated log. TopicRefused: no such partition.
        """

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        """Write the records in order and move the group's offset, as one transaction.

        Without transactions, all records are acknowledged before the `last` ones are written, and
        these before the offset moves. Fenced: a later owner has opened. RecordsTooLarge: a topic
        refuses records for their size. After any error but Fenced it is unknown what was committed:
        open again.
        """

    async def close(self) -> None:
        """Release the partition without committing. Never raises."""


class LogWriter(Protocol):
    """Produces records outside any transaction."""

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write, await every acknowledgement, and return each record's position (with epoch 0).

        Records of one partition keep their order.
        """

    async def close(self) -> None:
        """Release the connections. Never raises."""


class LogReader(Protocol):
    """Reads topics outside consumer groups: for audits, tests and tools."""

    async def partition_count(self, topic: str) -> int:
        """Return the number of partitions; 0 for an unknown topic.

        It needs no right to read the topic.
        """

    async def topic_states(self, topics: Sequence[str]) -> dict[str, TopicState]:
        """Return the states of topics, as one broker knows them. Makes none."""

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        """Return the watermarks of each partition; empty for an unknown topic."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[LogRecord]:
        """Stream the committed records with start <= offset < end."""

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offsets that a group has committed, by partition (absent: none)."""

    async def close(self) -> None:
        """Release the connections. Never raises."""


class LogFollower(Protocol):
    """Follows a topic outside consumer groups: each follower gets all records."""

    def follow(
        self, topic: str, partitions: int
    ) -> AbstractAsyncContextManager[AsyncIterator[LogRecord]]:
        """Stream the committed records of all partitions from the block's beginning on.

        Those of one partition come in order. The stream ends with ServerUnavailable where a record
        may have been missed; follow again then.
        """


class LogAdmin(Protocol):
    """Creates topics, checks their settings, and sets the offsets of groups at rest."""

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that do not exist, and return their names."""

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Return a sentence for each difference from the declaration; empty when there is none."""

    async def transactional(self) -> bool:
        """Return whether the broker has transactions."""

    async def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set a group's committed offsets, by partition. Misconfigured: the group has members."""

    async def close(self) -> None:
        """Release the connections. Never raises."""
