"""The client's answers, read as our records."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchError, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from eventfleet.topics.record import LogRecord
from eventfleet.workers.transport.fetched_records import FetchResults

TP = TopicPartition("tally.stored", 3)
HEADERS = [("content-type", b"text/plain")]
COMMITTED = 1


class Assignment:
    """Of the one partition, at the position 0."""

    active = True
    paused = False
    position = 0

    def state_value(self, tp: TopicPartition) -> "Assignment":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(start: int, count: int, producer: int, transactional: bool = True) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=transactional,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=10_000,
    )
    for at in range(count):
        builder.append(at, 1000 + start + at, b"a", str(start + at).encode(), HEADERS)
    value = builder.build()
    return start.to_bytes(8, "big") + bytes(value[8:])


def result(batches: bytes, aborted: list[tuple[int, int]], assignment: Any) -> FetchResult:
    records = PartitionRecords(
        *(TP, MemoryRecords(batches), aborted, 0, None, None, True, COMMITTED)
    )
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0.1)


def test_records_are_ours_in_pieces_of_bounded_length_and_the_position_moves_with_them() -> None:
    results, assignment = FetchResults(), Assignment()
    results[TP] = result(batch(0, 3, 7) + batch(3, 2, 7), [], assignment)
    first = results[TP].getall(2)
    assert first == [
        LogRecord(TP.topic, TP.partition, at, b"a", str(at).encode(), tuple(HEADERS), 1000 + at)
        for at in (0, 1)
    ]
    assert {type(record) for record in first} == {LogRecord}
    assert assignment.position == 2
    assert [record.offset for record in results[TP].getall(10)] == [2, 3, 4]
    assert assignment.position == 5
    assert not results[TP].has_more()


def test_records_of_aborted_transactions_are_passed_over() -> None:
    results, assignment = FetchResults(), Assignment()
    results[TP] = result(batch(0, 2, 7) + batch(2, 2, 8), [(7, 0)], assignment)
    assert [record.offset for record in results[TP].getall(10)] == [2, 3]
    assert assignment.position == 4


def test_errors_stay_the_clients() -> None:
    results, error = FetchResults(), FetchError(error=ValueError("no"), backoff=0.1)
    results[TP] = error
    assert results[TP] is error


@pytest.fixture
def without_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def seek(results: FetchResults, assignment: Assignment) -> None:
    assignment.position = 4
    assert results[TP].getall(2) == []


DROPS: dict[str, Callable[[FetchResults, Assignment], None]] = {
    "deleted": lambda results, _: results.__delitem__(TP),
    "cleared": lambda results, _: results.clear(),
    "of another position": seek,
}


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_records_that_are_dropped_before_their_end_are_freed_at_once(
    drop: Callable[[FetchResults, Assignment], None], taken: int
) -> None:
    """A retry seeks, and fetches the same response again."""
    results, assignment = FetchResults(), Assignment()
    results[TP] = result(batch(0, 5, 7), [], assignment)
    dropped = weakref.ref(results[TP]._partition_records._records)
    if taken:
        assert len(results[TP].getall(taken)) == taken
    drop(results, assignment)
    assert dropped() is None
