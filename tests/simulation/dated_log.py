"""A log that knows in which step each record came."""

from collections.abc import Callable

from eventfleet.stores.memory.log import MemoryLog, Transaction
from eventfleet.topics.event import Position
from eventfleet.topics.record import ProducerRecord


class DatedLog(MemoryLog):
    """`dates`: the step of each record, by topic, partition and offset."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self.dates: dict[tuple[str, int, int], int] = {}

    def append(self, record: ProducerRecord, transaction: Transaction | None = None) -> Position:
        at = super().append(record, transaction)
        self.dates[record.topic, at.partition, at.offset] = self._now()
        return at
