"""The log in memory: partitions, committed offsets, transactions, owners that fence each other."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Fenced, Misconfigured, ServerUnavailable
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.topic_diff import describe_differences, describe_missing
from eventfleet.topics.event import Position
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

SourcePartition = tuple[str, str, int]
"""Group, topic, partition: what has one owner at a time."""


@dataclass(eq=False)
class Transaction:
    """Records and an offset that count all together, or not at all."""

    owner: SourcePartition
    generation: int
    partitions: set[tuple[str, int]] = field(default_factory=set)
    offset: int | None = None
    open: bool = True
    aborted: bool = False


@dataclass
class LogEntry:
    """One offset of a partition; without a record it is a transaction's control record."""

    record: LogRecord | None
    transaction: Transaction | None


class MemoryLog:
    """What all clients of one log share. Each call is one step that nothing can interrupt."""

    def __init__(self) -> None:
        self.specs: dict[str, TopicSpec] = {}
        self.offsets: dict[SourcePartition, int] = {}
        self._partitions: dict[str, list[list[LogEntry]]] = {}
        self._generations: dict[SourcePartition, int] = {}
        self._open: dict[SourcePartition, Transaction] = {}

    def create(self, spec: TopicSpec) -> bool:
        if spec.name in self.specs:
            return False
        self.specs[spec.name] = spec
        self._partitions[spec.name] = [[] for _ in range(spec.partitions)]
        return True

    def entries(self, topic: str, partition: int) -> list[LogEntry]:
        partitions = self._topic(topic)
        if partition not in range(len(partitions)):
            found = f"has {len(partitions)} partitions, none of number {partition}"
            raise Misconfigured(f"topic {topic} {found}")
        return partitions[partition]

    def append(self, outgoing: ProducerRecord, transaction: Transaction | None = None) -> Position:
        """Write one record, visible at once or with its transaction."""
        partition = outgoing.partition
        if partition is None:
            count = len(self._topic(outgoing.topic))
            partition = partition_of((outgoing.key or b"").decode(), count)
        entries = self.entries(outgoing.topic, partition)
        at = outgoing.topic, partition
        record = LogRecord(
            *at,
            len(entries),
            outgoing.key,
            outgoing.value,
            outgoing.headers,
            outgoing.timestamp or 0,
        )
        entries.append(LogEntry(record, transaction))
        if transaction is not None:
            transaction.partitions.add(at)
        return Position(0, partition, record.offset)

    def fence(self, owner: SourcePartition) -> int:
        """Abort what the earlier owner has open, and answer the new owner's generation."""
        if owner in self._open:
            self.end(self._open[owner], commit=False)
        self._generations[owner] = self._generations.get(owner, 0) + 1
        return self._generations[owner]

    def demand(self, owner: SourcePartition, generation: int) -> None:
        """Fenced unless this generation is the newest."""
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

    def stable(self, topic: str, partition: int) -> int:
        """The offset of the first record whose transaction is open, or the end."""
        entries = self.entries(topic, partition)
        pending = (i for i, e in enumerate(entries) if e.transaction and e.transaction.open)
        return next(pending, len(entries))

    def _topic(self, topic: str) -> list[list[LogEntry]]:
        if topic not in self._partitions:
            raise Misconfigured(f"topic {topic} does not exist")
        return self._partitions[topic]


class MemoryTransactionalWriter:
    """PartitionWriter; what `emit` writes shows, and `move` counts, when `move` has ended."""

    def __init__(
        self,
        log: MemoryLog,
        group: str,
        topic: str,
        partition: int,
        checkpoint: YieldPoint = no_yield,
    ) -> None:
        self.log, self.checkpoint = log, checkpoint
        self.source: SourcePartition = group, topic, partition
        self.generation: int | None = None

    async def open(self) -> int | None:
        await self.checkpoint()
        generation = self.log.fence(self.source)
        await self.checkpoint()
        self.generation = generation
        return self.log.offsets.get(self.source)

    async def commit(self, records: Sequence[ProducerRecord], next_offset: int) -> None:
        """RuntimeError unless `open` has succeeded since the last error."""
        generation, self.generation = self.generation, None
        if generation is None:
            raise RuntimeError(f"{self.source} is not open")
        await self.emit(generation, records)
        await self.move(generation, next_offset)
        self.generation = generation

    async def emit(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        await self.checkpoint()
        self.log.demand(self.source, generation)
        self._transaction = self.log.begin(self.source, generation)
        for record in records:
            await self.checkpoint()
            self.log.demand(self.source, generation)
            self.log.append(record, self._transaction)

    async def move(self, generation: int, next_offset: int) -> None:
        await self.checkpoint()
        self.log.demand(self.source, generation)
        self._transaction.offset = next_offset
        self.log.end(self._transaction, commit=True)
        await self.checkpoint()

    async def close(self) -> None:
        self.generation = None


class MemoryPlainWriter(MemoryTransactionalWriter):
    """PartitionWriter of a log without transactions: nobody is fenced, the offset moves last."""

    async def emit(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        for record in records:
            await self.checkpoint()
            self.log.append(record)

    async def move(self, generation: int, next_offset: int) -> None:
        await self.checkpoint()
        self.log.offsets[self.source] = next_offset
        await self.checkpoint()


class MemoryProducer:
    """LogWriter."""

    def __init__(self, log: MemoryLog, checkpoint: YieldPoint = no_yield) -> None:
        self._log, self._checkpoint = log, checkpoint

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        positions = []
        for record in records:
            await self._checkpoint()
            positions.append(self._log.append(record))
        await self._checkpoint()
        return positions

    async def close(self) -> None:
        """There is nothing to let go."""


class MemoryReader:
    """LogReader; an open transaction below the end of a read is ServerUnavailable at once."""

    def __init__(self, log: MemoryLog, checkpoint: YieldPoint = no_yield) -> None:
        self._log, self._checkpoint = log, checkpoint

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        await self._checkpoint()
        spec = self._log.specs.get(topic)
        partitions = range(spec.partitions if spec else 0)
        return {p: Watermarks(0, len(self._log.entries(topic, p))) for p in partitions}

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        await self._checkpoint()
        if partition not in await self.watermarks(topic):
            return
        entries = self._log.entries(topic, partition)
        end, stable = min(end, len(entries)), self._log.stable(topic, partition)
        for entry in entries[start : min(end, stable)]:
            if entry.record and not (entry.transaction and entry.transaction.aborted):
                await self._checkpoint()
                yield entry.record
        if stable < end:
            raise ServerUnavailable(
                f"reading {topic}/{partition}: a transaction is open at {stable}"
            )

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        await self._checkpoint()
        offsets = self._log.offsets.items()
        return {p: offset for (g, t, p), offset in offsets if (g, t) == (group, topic)}

    async def close(self) -> None:
        """There is nothing to let go."""


class MemoryAdmin:
    """LogAdmin."""

    def __init__(self, log: MemoryLog, transactional: bool = True) -> None:
        self._log, self._transactional = log, transactional

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        return [spec.name for spec in specs if self._log.create(spec)]

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        found: list[str] = []
        for spec in specs:
            topic = self._log.specs.get(spec.name)
            if topic is None:
                found.append(describe_missing(spec))
            else:
                found += describe_differences(
                    spec, topic.partitions, topic.replication, topic.config
                )
        return found

    async def transactional(self) -> bool:
        return self._transactional

    async def close(self) -> None:
        """There is nothing to let go."""
