"""What both sides fold: stored events of one partition, each aggregate's first one apart."""

from typing import NamedTuple

from benchmarks.contenders.task import Task
from benchmarks.data import Amount, made
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord


class Folded(NamedTuple):
    """`warm`: the first record of each aggregate, to be folded before the clock starts."""

    warm: list[LogRecord]
    rest: list[LogRecord]


def records(task: Task) -> Folded:
    """The events of the task in memory, offsets from 0 on."""
    aggregates = task.more["aggregates"]
    (events,) = made(task.domain, Amount(task.records + aggregates, aggregates, 1))
    first = [event for event in events if event.version == 1]
    rest = [event for event in events if event.version > 1]
    return Folded(_records(task, first, 0), _records(task, rest, len(first)))


def _records(task: Task, events: list[EventRecord], start: int) -> list[LogRecord]:
    topic = Topics.of(task.domain).stored
    return [
        LogRecord(topic, 0, offset, event.aggregate_id.encode(), encode(event))
        for offset, event in enumerate(events, start)
    ]
