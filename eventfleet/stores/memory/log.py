"""The log, in memory: partitions, committed offsets, transactions, owners that fence each other."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from eventfleet.stores.contracts import TopicState, Watermarks
from eventfleet.stores.errors import (
    Fenced,
    RecordsTooLarge,
    ServerUnavailable,
    TopicRefused,
)
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.topic_diff import describe_differences, describe_missing
from eventfleet.topics.event import Position
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

POLL_SECONDS = 0.001
SourcePartition = tuple[str, str, int]
"""Group, topic, partition: these have one owner at a time."""


@dataclass(eq=False)
class Transaction:
    """Records and an offset that become visible all together, or not at all."""

    owner: SourcePartition
    generation: int
    partitions: set[tuple[str, int]] = field(default_factory=set)
    offset: int | None = None
    open: bool = True
    aborted: bool = False


@dataclass
class LogEntry:
    """The entry at one offset of a partition; without a record, a transaction's control record."""

    record: LogRecord | None
    transaction: Transaction | None


class MemoryLog:
    """The log that all its clients share. Each call is one step that nothing can interrupt."""

    def __init__(self) -> None:
        self.specs: dict[str, TopicSpec] = {}
        self.offsets: dict[SourcePartition, int] = {}
        self.oldest: dict[tuple[str, int], int] = {}  # where retention has removed records
        self._partitions: dict[str, list[list[LogEntry]]] = {}
        self._generations: dict[SourcePartition, int] = {}
        self._open: dict[SourcePartition, Transaction] = {}

    def create(self, spec: TopicSpec) -> bool:
        """Create a topic, unless it exists; return whether it was created."""
        if spec.name in self.specs:
            return False
        self.specs[spec.name] = spec
        self._partitions[spec.name] = [[] for _ in range(spec.partitions)]
        return True

    def entries(self, topic: str, partition: int) -> list[LogEntry]:
        partitions = self._topic(topic)
        if partition not in range(len(partitions)):
            count = len(partitions)
            raise TopicRefused(f"topic {topic} has {count} partitions, no partition {partition}")
        return partitions[partition]

    def append(self, record: ProducerRecord, transaction: Transaction | None = None) -> Position:
        """Write one record, visible at once or with its transaction."""
        partition = record.partition
        if partition is None:
            count = len(self._topic(record.topic))
            partition = partition_of((record.key or b"").decode(), count)
        entries = self.entries(record.topic, partition)
        self._check_size(record)
        written = LogRecord(
            record.topic,
            partition,
            len(entries),
            record.key,
            record.value,
            record.headers,
            record.timestamp or 0,
        )
        entries.append(LogEntry(written, transaction))
        if transaction is not None:
            transaction.partitions.add((record.topic, partition))
        return Position(0, partition, written.offset)

    def _check_size(self, record: ProducerRecord) -> None:
        size = len(record.key or b"") + len(record.value or b"")
        limit = self.specs[record.topic].config.get("max.message.bytes")
        if limit and size > int(limit):
            raise RecordsTooLarge(f"topic {record.topic}: a record has {size} bytes", [record])

    def fence(self, owner: SourcePartition) -> int:
        """Abort the earlier owner's open transaction, and return the new owner's generation."""
        if owner in self._open:
            self.end(self._open[owner], commit=False)
        self._generations[owner] = self._generations.get(owner, 0) + 1
        return self._generations[owner]

    def check_generation(self, owner: SourcePartition, generation: int) -> None:
        """Raise Fenced unless this generation is the newest."""
        if self._generations.get(owner) != generation:
            group, topic, partition = owner
            raise Fenced(f"{topic}/{partition} for {group}: another owner has taken over")

    def begin(self, owner: SourcePartition, generation: int) -> Transaction:
        self._open[owner] = transaction = Transaction(owner, generation)
        return transaction

    def end(self, transaction: Transaction, commit: bool) -> None:
        """Commit or abort; either way each partition written to gets a control record."""
        transaction.open, transaction.aborted = False, not commit
        del self._open[transaction.owner]
        for topic, partition in sorted(transaction.partitions):
            self.entries(topic, partition).append(LogEntry(None, None))
        if commit and transaction.offset is not None:
            self.offsets[transaction.owner] = transaction.offset

    def watermarks(self, topic: str, partition: int) -> Watermarks:
        """Return the oldest offset kept, and the end."""
        end = len(self.entries(topic, partition))
        return Watermarks(self.oldest.get((topic, partition), 0), end)

    def last_stable_offset(self, topic: str, partition: int) -> int:
        """Return the offset of the first record whose transaction is open, or the end."""
        entries = self.entries(topic, partition)
        pending = (i for i, e in enumerate(entries) if e.transaction and e.transaction.open)
        return next(pending, len(entries))

    def _topic(self, topic: str) -> list[list[LogEntry]]:
        if topic not in self._partitions:
            raise TopicRefused(f"topic {topic} does not exist")
        return self._partitions[topic]


class MemoryTransactionalWriter:
    """PartitionWriter with transactions: `write` and `move` become visible when `move` ends."""

    def __init__(
        self,
        log: MemoryLog,
        group: str,
        topic: str,
        partition: int,
        yield_point: YieldPoint = no_yield,
    ) -> None:
        self.log, self.yield_point = log, yield_point
        self.source: SourcePartition = group, topic, partition
        self.generation: int | None = None

    async def open(self) -> int | None:
        await self.yield_point()
        generation = self.log.fence(self.source)
        await self.yield_point()
        self.generation = generation
        return self.log.offsets.get(self.source)

    async def watermarks(self) -> Watermarks:
        await self.yield_point()
        return self.log.watermarks(*self.source[1:])

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        """RuntimeError unless `open` has succeeded since the last error."""
        generation, self.generation = self.generation, None
        if generation is None:
            raise RuntimeError(f"{self.source} is not open")
        await self.write(generation, [*records, *last])
        await self.move(generation, next_offset)
        self.generation = generation

    async def write(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        await self.yield_point()
        self.log.check_generation(self.source, generation)
        self._transaction = self.log.begin(self.source, generation)
        for record in records:
            await self.yield_point()
            self.log.check_generation(self.source, generation)
            self.log.append(record, self._transaction)

    async def move(self, generation: int, next_offset: int) -> None:
        await self.yield_point()
        self.log.check_generation(self.source, generation)
        self._transaction.offset = next_offset
        self.log.end(self._transaction, commit=True)
        await self.yield_point()

    async def close(self) -> None:
        self.generation = None


class MemoryPlainWriter(MemoryTransactionalWriter):
    """PartitionWriter without transactions: nobody is fenced, and the offset moves last."""

    async def write(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        for record in records:
            await self.yield_point()
            self.log.append(record)

    async def move(self, generation: int, next_offset: int) -> None:
        await self.yield_point()
        self.log.offsets[self.source] = next_offset
        await self.yield_point()


class MemoryProducer:
    """LogWriter, in memory."""

    def __init__(self, log: MemoryLog, yield_point: YieldPoint = no_yield) -> None:
        self._log, self._yield_point = log, yield_point

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        positions = []
        for record in records:
            await self._yield_point()
            positions.append(self._log.append(record))
        await self._yield_point()
        return positions

    async def close(self) -> None:
        """There is nothing to release."""


class MemoryReader:
    """LogReader, in memory.

    A read that meets an open transaction raises ServerUnavailable at once.
    """

    def __init__(self, log: MemoryLog, yield_point: YieldPoint = no_yield) -> None:
        self._log, self._yield_point = log, yield_point

    async def partition_count(self, topic: str) -> int:
        return len(await self.watermarks(topic))

    async def topic_states(self, topics: Sequence[str]) -> dict[str, TopicState]:
        await self._yield_point()
        specs = {topic: self._log.specs.get(topic) for topic in topics}
        return {
            topic: TopicState(f"{id(spec):x}", spec.partitions) if spec else TopicState("", 0)
            for topic, spec in specs.items()
        }

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        await self._yield_point()
        spec = self._log.specs.get(topic)
        partitions = range(spec.partitions if spec else 0)
        return {p: self._log.watermarks(topic, p) for p in partitions}

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        await self._yield_point()
        if partition not in await self.watermarks(topic):
            return
        entries = self._log.entries(topic, partition)
        start = max(start, self._log.watermarks(topic, partition).oldest)
        end, stable = min(end, len(entries)), self._log.last_stable_offset(topic, partition)
        for entry in entries[start : min(end, stable)]:
            if entry.record and not (entry.transaction and entry.transaction.aborted):
                await self._yield_point()
                yield entry.record
        if stable < end:
            raise ServerUnavailable(
                f"reading {topic}/{partition}: a transaction is open at {stable}"
            )

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        await self._yield_point()
        offsets = self._log.offsets.items()
        return {p: offset for (g, t, p), offset in offsets if (g, t) == (group, topic)}

    async def close(self) -> None:
        """There is nothing to release."""


class MemoryFollower:
    """LogFollower, in memory. It looks for records every POLL_SECONDS."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    @asynccontextmanager
    async def follow(self, topic: str, partitions: int) -> AsyncIterator[AsyncIterator[LogRecord]]:
        starts = [len(self._log.entries(topic, number)) for number in range(partitions)]
        yield self._records(topic, starts)

    async def _records(self, topic: str, offsets: list[int]) -> AsyncIterator[LogRecord]:
        while True:
            for partition, offset in enumerate(offsets):
                for entry in self._log.entries(topic, partition)[offset:]:
                    if entry.transaction and entry.transaction.open:
                        break
                    offsets[partition] += 1
                    aborted = entry.transaction and entry.transaction.aborted
                    if entry.record and not aborted:
                        yield entry.record
            await asyncio.sleep(POLL_SECONDS)


class MemoryAdmin:
    """LogAdmin, in memory."""

    def __init__(self, log: MemoryLog, transactional: bool = True) -> None:
        self._log, self._transactional = log, transactional

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        return [spec.name for spec in specs if self._log.create(spec)]

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        sentences: list[str] = []
        for spec in specs:
            topic = self._log.specs.get(spec.name)
            if topic is None:
                sentences.append(describe_missing(spec))
            else:
                sentences += describe_differences(
                    spec, topic.partitions, topic.replication, topic.config
                )
        return sentences

    async def transactional(self) -> bool:
        return self._transactional

    async def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._log.offsets[group, topic, partition] = offset

    async def close(self) -> None:
        """There is nothing to release."""
