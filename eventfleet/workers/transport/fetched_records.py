"""What the client has fetched, read as our records.

Of each record the client makes an object with eleven fields, through two iterators: half of what
fetching takes. Which records there are (those of no aborted transaction, none before the position)
the client says here, too.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from eventfleet.topics.record import Headers, LogRecord


class Records(PartitionRecords):  # type: ignore[misc]
    """The records of one answer for one partition."""

    headers: Headers = ()
    """Those of the record before: most have the same, and one tuple is kept for all of them."""

    def __iter__(self) -> Iterator[LogRecord]:
        records: Iterator[LogRecord] = self._records_iterator
        return records

    def _consumer_record(self, tp: TopicPartition, record: Any) -> LogRecord:
        (topic, partition), headers = tp, tuple(record.headers)
        if headers == self.headers:
            headers = self.headers
        else:
            self.headers = headers
        offset, key, value = record.offset, record.key, record.value
        return LogRecord(topic, partition, offset, key, value, headers, record.timestamp)


class Results(OrderedDict[TopicPartition, Any]):
    """The client's own store of answers and errors; Records take the place of its own."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records.__class__ = Records
        super().__setitem__(tp, result)


def read_as_ours(consumer: Any) -> None:
    """Have a consumer that was just started give LogRecords."""
    consumer._fetcher._records = Results()
