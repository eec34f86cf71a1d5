"""Records to batches, in order, each acknowledged before the next of its partition."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.partitioner import murmur2, partition_of
from eventfleet.topics.record import Headers, ProducerRecord


class PartitionShare(NamedTuple):
    """What of some records goes to one partition, and their places among all."""

    records: list[ProducerRecord]
    indexes: list[int]


class AckedShare(NamedTuple):
    """Where a part has gone: its records' places among all, and their offsets."""

    partition: int
    indexes: list[int]
    offsets: Sequence[int]


class BatchingProducer:
    """The ways into partitions by one producer, for any number of senders at once."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._lanes: dict[tuple[str, int], PartitionQueue] = {}

    async def send(self, records: Sequence[ProducerRecord]) -> list[AckedShare]:
        """Write all and await every acknowledgement; partitions go side by side.

        Ends only when nothing of it is under way any more; then raises the first error, if there
        was one. After an error, or when it was cancelled, the producer is to be dropped.
        """
        topics = {record.topic for record in records}
        parts = _parts(records, {t: await self._producer.partitions_for(t) for t in topics})
        puts = [self._lane(to).put(part.records) for to, part in parts.items()]
        ends = await asyncio.gather(*puts, return_exceptions=True)
        sent: list[AckedShare] = []
        for ((_, partition), part), end in zip(parts.items(), ends, strict=True):
            if isinstance(end, BaseException):
                raise end
            sent.append(AckedShare(partition, part.indexes, end))
        return sent

    def _lane(self, to: tuple[str, int]) -> "PartitionQueue":
        lane = self._lanes.get(to)
        if lane is None:
            lane = self._lanes[to] = PartitionQueue(self._producer, *to)
        return lane


class PendingSend(NamedTuple):
    """Some records on their way; their offsets when all are acknowledged."""

    records: list[ProducerRecord]
    offsets: "asyncio.Future[Sequence[int]]"


class PartitionQueue:
    """The way into one partition. What comes while a batch is out goes with the next."""

    def __init__(self, producer: Any, topic: str, partition: int) -> None:
        self._producer, self._topic, self._partition = producer, topic, partition
        self._waiting: list[PendingSend] = []
        self._driving: asyncio.Task[None] | None = None

    def put(self, records: list[ProducerRecord]) -> "asyncio.Future[Sequence[int]]":
        """Their offsets."""
        load = PendingSend(records, asyncio.get_running_loop().create_future())
        self._waiting.append(load)
        if self._driving is None:
            self._driving = asyncio.create_task(self._drive())
        return load.offsets

    async def _drive(self) -> None:
        """Until nothing waits, or something fails: then all that is here."""
        loads: list[PendingSend] = []
        try:
            while self._waiting:
                loads = [load for load in self._waiting if not load.offsets.done()]
                self._waiting = []
                await self._write(loads)
        except Exception as error:
            for load in (*loads, *self._waiting):
                if not load.offsets.done():
                    load.offsets.set_exception(error)
            self._waiting = []
        finally:
            self._driving = None

    async def _write(self, loads: list[PendingSend]) -> None:
        offsets: list[int] = []
        records = [record for load in loads for record in load.records]
        while len(offsets) < len(records):
            batch = self._producer.create_batch()
            count = _fill(batch, records, len(offsets))
            sending = self._producer.send_batch(batch, self._topic, partition=self._partition)
            first = (await (await sending)).offset
            offsets.extend(range(first, first + count))
        start = 0
        for load in loads:
            end = start + len(load.records)
            if not load.offsets.done():
                load.offsets.set_result(offsets[start:end])
            start = end


def _parts(
    records: Sequence[ProducerRecord], partitions: Mapping[str, set[int]]
) -> dict[tuple[str, int], PartitionShare]:
    parts: dict[tuple[str, int], PartitionShare] = {}
    for index, record in enumerate(records):
        topic, partition = record.topic, record.partition
        if partition is None:
            partition = _by_hash(record.key or b"", len(partitions[topic]))
        part = parts.get((topic, partition))
        if part is None:
            if partition not in partitions[topic]:
                found = f"has {len(partitions[topic])} partitions, none of number {partition}"
                raise Misconfigured(f"topic {topic} {found}")
            part = parts[topic, partition] = PartitionShare([], [])
        part.records.append(record)
        part.indexes.append(index)
    return parts


def _fill(batch: Any, records: Sequence[ProducerRecord], start: int) -> int:
    """Put in as many as fit, the first whatever its size; how many."""
    append = batch.append
    known: Headers = ()
    listed: list[tuple[str, bytes]] = []
    for count, record in enumerate(islice(records, start, None)):
        if record.headers is not known:
            known, listed = record.headers, list(record.headers)
        at, key, value = record.timestamp, record.key, record.value
        if append(timestamp=at, key=key, value=value, headers=listed) is None:
            return count
    return len(records) - start


def _by_hash(key: bytes, count: int) -> int:
    try:
        return partition_of(key.decode(), count)
    except UnicodeDecodeError:
        return (murmur2(key) & 0x7FFFFFFF) % count
