"""Records to batches, in order, each acknowledged before the next of its partition."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from stores.errors import Misconfigured
from topics.partitioner import murmur2, partition_of
from topics.record import Outgoing


class Written(NamedTuple):
    """Where a record went."""

    partition: int
    offset: int


async def send(producer: Any, records: Sequence[Outgoing]) -> list[Written]:
    """Write all and await every acknowledgement; partitions go side by side.

    Ends only when nothing is under way any more; then raises the first error, if there was one.
    """
    lanes: dict[tuple[str, int], list[int]] = defaultdict(list)
    counts = {topic: await producer.partitions_for(topic) for topic in {r.topic for r in records}}
    for index, record in enumerate(records):
        lanes[record.topic, _partition(record, counts[record.topic])].append(index)
    writing = [
        _lane(producer, topic, partition, [records[index] for index in lane])
        for (topic, partition), lane in lanes.items()
    ]
    sent = await asyncio.gather(*writing, return_exceptions=True)
    written: list[Any] = [None] * len(records)
    for ((_, partition), lane), offsets in zip(lanes.items(), sent, strict=True):
        if isinstance(offsets, BaseException):
            raise offsets
        for index, offset in zip(lane, offsets, strict=True):
            written[index] = Written(partition, offset)
    return written


async def _lane(
    producer: Any, topic: str, partition: int, records: Sequence[Outgoing]
) -> list[int]:
    offsets: list[int] = []
    while len(offsets) < len(records):
        batch = producer.create_batch()
        count = _fill(batch, records, len(offsets))
        metadata = await (await producer.send_batch(batch, topic, partition=partition))
        offsets.extend(range(metadata.offset, metadata.offset + count))
    return offsets


def _fill(batch: Any, records: Sequence[Outgoing], start: int) -> int:
    """Put in as many as fit, the first whatever its size; how many."""
    for index in range(start, len(records)):
        _, key, value, _, headers, timestamp = records[index]
        done = batch.append(timestamp=timestamp, key=key, value=value, headers=list(headers))
        if done is None:
            return index - start
    return len(records) - start


def _partition(record: Outgoing, partitions: set[int]) -> int:
    if record.partition is not None:
        if record.partition not in partitions:
            found = f"has {len(partitions)} partitions, none of number {record.partition}"
            raise Misconfigured(f"topic {record.topic} {found}")
        return record.partition
    key = record.key or b""
    try:
        return partition_of(key.decode(), len(partitions))
    except UnicodeDecodeError:
        return (murmur2(key) & 0x7FFFFFFF) % len(partitions)
