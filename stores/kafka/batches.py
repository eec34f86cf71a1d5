"""Records to batches, in order, each acknowledged before the next of its partition."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from stores.errors import Misconfigured
from topics.partitioner import murmur2, partition_of
from topics.record import Headers, Outgoing


@dataclass
class Lane:
    """The records of one partition, their places among all that were given, and their offsets."""

    topic: str
    partition: int
    records: list[Outgoing] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


async def send(producer: Any, records: Sequence[Outgoing]) -> list[Lane]:
    """Write all and await every acknowledgement; partitions go side by side.

    Ends only when nothing is under way any more; then raises the first error, if there was one.
    """
    partitions = {t: await producer.partitions_for(t) for t in {r.topic for r in records}}
    lanes = _lanes(records, partitions)
    ends = await asyncio.gather(*(_drive(producer, lane) for lane in lanes), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    return lanes


def _lanes(records: Sequence[Outgoing], partitions: Mapping[str, set[int]]) -> list[Lane]:
    lanes: dict[tuple[str, int], Lane] = {}
    for index, record in enumerate(records):
        topic, partition = record.topic, record.partition
        if partition is None:
            partition = _by_hash(record.key or b"", len(partitions[topic]))
        lane = lanes.get((topic, partition))
        if lane is None:
            if partition not in partitions[topic]:
                found = f"has {len(partitions[topic])} partitions, none of number {partition}"
                raise Misconfigured(f"topic {topic} {found}")
            lane = lanes[topic, partition] = Lane(topic, partition)
        lane.records.append(record)
        lane.indexes.append(index)
    return [*lanes.values()]


async def _drive(producer: Any, lane: Lane) -> None:
    while (done := len(lane.offsets)) < len(lane.records):
        batch = producer.create_batch()
        count = _fill(batch, lane.records, done)
        sending = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        first = (await sending).offset
        lane.offsets.extend(range(first, first + count))


def _fill(batch: Any, records: Sequence[Outgoing], start: int) -> int:
    """Put in as many as fit, the first whatever its size; how many."""
    append = batch.append
    known: Headers = ()
    listed: list[tuple[str, bytes]] = []
    for count, record in enumerate(islice(records, start, None)):
        _, key, value, _, headers, timestamp = record
        if headers is not known:
            known, listed = headers, list(headers)
        if append(timestamp=timestamp, key=key, value=value, headers=listed) is None:
            return count
    return len(records) - start


def _by_hash(key: bytes, count: int) -> int:
    try:
        return partition_of(key.decode(), count)
    except UnicodeDecodeError:
        return (murmur2(key) & 0x7FFFFFFF) % count
