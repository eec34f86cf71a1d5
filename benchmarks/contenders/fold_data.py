"""Data of the fold scenario: stored events of one partition, each aggregate's first apart."""

from typing import NamedTuple

from benchmarks.contenders.task import ContenderTask
from benchmarks.data import DatasetSize, make_events
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord


class FoldRecords(NamedTuple):
    """Records to fold; `warm_up`: the first of each aggregate, folded before the clock starts."""

    warm_up: list[LogRecord]
    rest: list[LogRecord]


def make_records(task: ContenderTask) -> FoldRecords:
    """Return the task's events as records in memory; offsets begin at 0."""
    aggregates = task.extra["aggregates"]
    (events,) = make_events(task.domain, DatasetSize(task.records + aggregates, aggregates, 1))
    first = [event for event in events if event.version == 1]
    rest = [event for event in events if event.version > 1]
    return FoldRecords(_encode_records(task, first, 0), _encode_records(task, rest, len(first)))


def _encode_records(task: ContenderTask, events: list[EventRecord], start: int) -> list[LogRecord]:
    topic = Topics.of(task.domain, "").stored
    return [
        LogRecord(topic, 0, offset, event.aggregate_id.encode(), encode(event))
        for offset, event in enumerate(events, start)
    ]
