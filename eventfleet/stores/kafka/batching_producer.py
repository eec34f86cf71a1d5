"""Batches records by partition, in order; each batch is acknowledged before the next is sent."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from eventfleet.stores.errors import RecordsTooLarge, TopicRefused
from eventfleet.stores.kafka.errors import translate_topic_errors
from eventfleet.topics.partitioner import murmur2, partition_of
from eventfleet.topics.record import Headers, ProducerRecord


class PartitionShare(NamedTuple):
    """The share of some records that goes to one partition, with their indexes among all."""

    records: list[ProducerRecord]
    indexes: list[int]


class AckedShare(NamedTuple):
    """An acknowledged share: its records' indexes among all, and their offsets."""

    partition: int
    indexes: list[int]
    offsets: Sequence[int]


@dataclass
class TopicMemory:
    """Which topics Kafka has named, and the `limits` of their batches in bytes, by topic, where it
    has refused a larger one for its size."""

    limits: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)


class BatchingProducer:
    """Sends records through one producer, for any number of callers at once.

    `memory` outlives it, since a producer is of no use after a refusal.
    """

    def __init__(self, producer: Any, memory: TopicMemory) -> None:
        self._producer, self._memory = producer, memory
        self._queues: dict[tuple[str, int], PartitionQueue] = {}

    async def send(self, records: Sequence[ProducerRecord]) -> list[AckedShare]:
        """Write all and await every acknowledgement; the partitions go side by side.

        It ends only when none of the records is in flight any more, and then raises the first
        error, if there was one; but RecordsTooLarge, with what all partitions refuse, comes before
        others. After an error or a cancellation the producer must be aborted.
        """
        topics = {record.topic for record in records}
        shares = _split(records, {topic: await self._partitions_for(topic) for topic in topics})
        if len(shares) == 1:
            ((to, (all_records, indexes)),) = shares.items()
            return [AckedShare(to[1], indexes, await self._queue(to).send(all_records))]
        puts = [self._queue(to).put(share.records) for to, share in shares.items()]
        results = await asyncio.gather(*puts, return_exceptions=True)
        acked: list[AckedShare] = []
        too_large = [each for each in results if isinstance(each, RecordsTooLarge)]
        if too_large:
            found = [record for each in too_large for record in each.records]
            raise RecordsTooLarge(str(too_large[0]), found) from too_large[0]
        for ((_, partition), share), result in zip(shares.items(), results, strict=True):
            if isinstance(result, BaseException):
                raise result
            acked.append(AckedShare(partition, share.indexes, result))
        return acked

    async def _partitions_for(self, topic: str) -> set[int]:
        with translate_topic_errors(topic, named=topic in self._memory.named):
            partitions: set[int] = await self._producer.partitions_for(topic)
        self._memory.named.add(topic)
        return partitions

    def _queue(self, to: tuple[str, int]) -> "PartitionQueue":
        queue = self._queues.get(to)
        if queue is None:
            queue = self._queues[to] = PartitionQueue(self._producer, *to, self._memory.limits)
        return queue


class PendingSend(NamedTuple):
    """Records of one call, and their offsets once all are acknowledged."""

    records: list[ProducerRecord]
    offsets: "asyncio.Future[Sequence[int]]"


class PartitionQueue:
    """The records for one partition. Those that arrive while a batch is out go with the next."""

    def __init__(self, producer: Any, topic: str, partition: int, limits: dict[str, int]) -> None:
        self._producer, self._topic, self._partition = producer, topic, partition
        self._limits = limits
        self._waiting: list[PendingSend] = []
        self._is_sending = False
        self._sender: asyncio.Task[None] | None = None

    async def send(self, records: list[ProducerRecord]) -> Sequence[int]:
        """Return the offsets of records; where nothing is out, the caller itself sends them."""
        if self._is_sending:
            return await self.put(records)
        self._is_sending = True
        try:
            return await self._write(records)
        except Exception as error:
            self._fail(self._waiting, error)
            raise
        finally:
            self._is_sending = False
            if self._waiting:
                self._start()

    def put(self, records: list[ProducerRecord]) -> "asyncio.Future[Sequence[int]]":
        """Queue records, and return their offsets as a future."""
        send = PendingSend(records, asyncio.get_running_loop().create_future())
        self._waiting.append(send)
        if not self._is_sending:
            self._start()
        return send.offsets

    def _start(self) -> None:
        self._is_sending = True
        self._sender = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        """Send until nothing waits; an error fails all that is sent or waits."""
        sends: list[PendingSend] = []
        try:
            while self._waiting:
                sends = [send for send in self._waiting if not send.offsets.done()]
                self._waiting = []
                offsets = iter(await self._write([r for send in sends for r in send.records]))
                for send in sends:
                    own = [*islice(offsets, len(send.records))]
                    if not send.offsets.done():
                        send.offsets.set_result(own)
        except Exception as error:
            self._fail([*sends, *self._waiting], error)
        finally:
            self._is_sending = False

    def _fail(self, sends: Sequence[PendingSend], error: Exception) -> None:
        """Fail these and all that wait."""
        for send in sends:
            if not send.offsets.done():
                send.offsets.set_exception(error)
        self._waiting = []

    async def _write(self, records: list[ProducerRecord]) -> list[int]:
        """Write records in as many batches as they need, and return their offsets."""
        offsets: list[int] = []
        while len(offsets) < len(records):
            batch = self._producer.create_batch()
            count = _fill(batch, records, len(offsets), self._limits.get(self._topic))
            size = batch.size()
            sending = self._producer.send_batch(batch, self._topic, partition=self._partition)
            try:
                with translate_topic_errors(self._topic, named=True):
                    first = (await (await sending)).offset
            except RecordsTooLarge as error:
                raise self._too_large(error, records[len(offsets) :], count, size) from error
            offsets.extend(range(first, first + count))
        return offsets

    def _too_large(
        self, error: RecordsTooLarge, left: Sequence[ProducerRecord], count: int, size: int
    ) -> RecordsTooLarge:
        """Say of a refusal which records are too large: one in a batch of its own, and all as large
        or larger. Of a batch of several it is unknown: the next ones are half as large."""
        if count == 1:
            large = [record for record in left if _bytes_of(record) >= _bytes_of(left[0])]
            return RecordsTooLarge(f"{error}, for {_bytes_of(left[0])} bytes", large)
        self._limits[self._topic] = min(size, self._limits.get(self._topic, size)) // 2
        return error


def _bytes_of(record: ProducerRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _split(
    records: Sequence[ProducerRecord], partitions: Mapping[str, set[int]]
) -> dict[tuple[str, int], PartitionShare]:
    """Split records by topic and partition. TopicRefused: a topic has no such partition."""
    shares: dict[tuple[str, int], PartitionShare] = {}
    for index, record in enumerate(records):
        topic, partition = record.topic, record.partition
        if partition is None:
            partition = _partition_of(record.key or b"", len(partitions[topic]))
        share = shares.get((topic, partition))
        if share is None:
            if partition not in partitions[topic]:
                count = len(partitions[topic])
                raise TopicRefused(
                    f"topic {topic} has {count} partitions, no partition {partition}"
                )
            share = shares[topic, partition] = PartitionShare([], [])
        share.records.append(record)
        share.indexes.append(index)
    return shares


def _fill(
    batch: Any, records: Sequence[ProducerRecord], start: int, limit: int | None = None
) -> int:
    """Append records from `start` on until the batch is full, or has `limit` bytes, and return how
    many it took.

    The first record fits whatever its size. Records mostly share their headers, so the list that
    the driver needs is made only when they change.
    """
    append = batch.append
    headers: Headers = ()
    header_list: list[tuple[str, bytes]] = []
    for count, record in enumerate(islice(records, start, None)):
        if limit is not None and count and batch.size() + _bytes_of(record) > limit:
            return count
        if record.headers is not headers:
            headers, header_list = record.headers, list(record.headers)
        at, key, value = record.timestamp, record.key, record.value
        if append(timestamp=at, key=key, value=value, headers=header_list) is None:
            return count
    return len(records) - start


def _partition_of(key: bytes, count: int) -> int:
    try:
        return partition_of(key.decode(), count)
    except UnicodeDecodeError:
        return (murmur2(key) & 0x7FFFFFFF) % count
