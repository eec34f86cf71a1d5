"""The client's fetched records, read as LogRecords.

The client makes an object with eleven fields of each record, through two iterators, which takes
half of the time of fetching. It still chooses the records: none of an aborted transaction, none
before the position.

Results that are dropped before their end, as after a seek, are freed at once. The client's records
and their generator refer to each other, with a whole response of a megabyte, and our garbage
collections are rare: each retry of a chunk would keep one.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from eventfleet.topics.record import Headers, LogRecord


class FetchedRecords(PartitionRecords):  # type: ignore[misc]
    """The records of one fetch response for one partition."""

    headers: Headers = ()
    """The headers of the record before: most records have the same, and share one tuple."""

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


class FetchedResponse:
    """The records of one response, which are freed together with it."""

    def __init__(self, records: FetchedRecords) -> None:
        self._records = records

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(self._records)

    @property
    def next_fetch_offset(self) -> int:
        return int(self._records.next_fetch_offset)

    def __del__(self) -> None:
        records, ended = self._records._records_iterator, iter(())
        self._records._records_iterator = ended  # a closed generator may keep what it refers to
        records.close()


class FetchResults(OrderedDict[TopicPartition, Any]):
    """The client's store of fetch results and errors; FetchedResponse replaces its own records."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if type(result) is FetchResult:
            records = result._partition_records
            records.__class__ = FetchedRecords
            result._partition_records = FetchedResponse(records)
        super().__setitem__(tp, result)


def fetch_log_records(consumer: Any) -> None:
    """Make a consumer that was just started yield LogRecords."""
    consumer._fetcher._records = FetchResults()
