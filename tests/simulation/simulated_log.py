"""A log that dates its records, loses some, and ends transactions that take too long."""

from collections.abc import Callable

from eventfleet.stores.errors import RecordsTooLarge
from eventfleet.stores.memory.log import LogEntry, MemoryLog, SourcePartition, Transaction
from eventfleet.topics.event import Position
from eventfleet.topics.record import LogRecord, ProducerRecord

Place = tuple[str, int]
"""A topic and a partition."""


class SimulatedLog(MemoryLog):
    """`dates`: the step of each record, by topic, partition and offset. `removed_from`: the entries
    of a partition as they were before it was truncated. `refuses`: whether a record is too large
    for its topic."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self.dates: dict[tuple[str, int, int], int] = {}
        self.removed_from: dict[Place, list[LogEntry]] = {}
        self.refuses: Callable[[ProducerRecord], bool] = lambda record: False

    def append(self, record: ProducerRecord, transaction: Transaction | None = None) -> Position:
        if self.refuses(record):
            raise RecordsTooLarge(f"topic {record.topic} refuses a record", [record])
        at = super().append(record, transaction)
        self.dates[record.topic, at.partition, at.offset] = self._now()
        return at

    def partition_count(self, topic: str) -> int:
        return len(self._topic(topic))

    def transaction_of(self, owner: SourcePartition) -> Transaction | None:
        """The owner's transaction that is open."""
        return self._open.get(owner)

    def open_transactions(self) -> list[SourcePartition]:
        """The owners whose transactions are open."""
        return list(self._open)

    def time_out(self, owner: SourcePartition) -> None:
        """Abort an owner's transaction and fence it, as the coordinator does after a time."""
        self.fence(owner)

    def remove(self, topic: str, partition: int, oldest: int) -> None:
        """Keep the records from an offset on only, as retention does."""
        self.oldest[topic, partition] = oldest

    def has(self, topic: str, partition: int, offset: int) -> bool:
        """Check that a reader may go on from an offset."""
        oldest, end = self.watermarks(topic, partition)
        return oldest <= offset <= end

    def lost(self, topic: str, partition: int) -> bool:
        """Check whether the partition has lost any records."""
        place = topic, partition
        return place in self.oldest or place in self.removed_from

    def before_losses(self, topic: str, partition: int) -> list[LogRecord]:
        """The records of the partition as they were when it lost the first of them."""
        entries = self.removed_from.get((topic, partition)) or self.entries(topic, partition)
        return [entry.record for entry in entries if entry.record]

    def truncate(self, topic: str, partition: int, end: int) -> None:
        """Lose the records from an offset on, as after the election of a leader that lacks them."""
        entries = self.entries(topic, partition)
        self.removed_from.setdefault((topic, partition), list(entries))
        del entries[end:]
