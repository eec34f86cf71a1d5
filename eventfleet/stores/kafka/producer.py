"""Writers without transactions: a plain producer, and the owner of a partition."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.kafka.batching_producer import AckedShare, BatchingProducer, TopicMemory
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import abort_producer, translate_errors
from eventfleet.stores.kafka.offsets import fetch_committed
from eventfleet.stores.kafka.watermarks import fetch_watermarks_beyond
from eventfleet.stores.server_calls import timed_call
from eventfleet.topics.event import Position
from eventfleet.topics.record import ProducerRecord, make_tuple


class Producer:
    """LogWriter on Kafka. Connects at its first use; after an error the next use connects again.

    Records that are produced at the same time travel together: a broker gets one request after the
    other.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: Any = None
        self._topics = TopicMemory()
        self._batching = BatchingProducer(None, self._topics)
        self._starting = asyncio.Lock()

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        positions: list[Any] = [None] * len(records)
        for partition, indexes, offsets in await self._write(records):
            for index, offset in zip(indexes, offsets, strict=True):
                positions[index] = make_tuple(Position, (0, partition, offset))
        return positions

    async def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the group's committed offset, by the same connection; None if it has none."""
        what = f"reading the offset of {group}"
        try:
            with timed_call("kafka", "read_offset"):
                async with translate_errors(what, self._connection.timeout):
                    await self._start()
                    client = self._producer.client
                    offsets = await fetch_committed(client, group, topic, [partition])
                    return offsets.get(partition)
        except BaseException:
            await self.close()
            raise

    async def watermarks(self, topic: str, partition: int, offset: int) -> Watermarks:
        """Return a partition's watermarks as a PartitionWriter does that has committed `offset`."""
        what = f"reading the watermarks of {topic}/{partition}"
        try:
            with timed_call("kafka", "watermarks"):
                async with translate_errors(what, self._connection.timeout):
                    await self._start()
                    client = self._producer.client
                    return await fetch_watermarks_beyond(client, topic, partition, offset)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort_producer(producer)

    async def _write(self, records: Sequence[ProducerRecord]) -> list[AckedShare]:
        topics = ", ".join(sorted({record.topic for record in records}))
        try:
            with timed_call("kafka", "produce"):
                async with translate_errors(f"producing to {topics}", self._connection.timeout):
                    await self._start()
                    return await self._batching.send(records)
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        if self._producer is not None and not self._starting.locked():
            return
        async with self._starting:
            if self._producer is None:
                self._producer = self._connection.producer()
                self._batching = BatchingProducer(self._producer, self._topics)
                await self._producer.start()


class PlainWriter:
    """PartitionWriter without transactions: delivery is at least once, and nobody is fenced.

    `ack(next_offset)` moves the group's offset; it is awaited after all acknowledgements.
    """

    def __init__(
        self,
        connection: Connection,
        group: str,
        source: tuple[str, int],
        ack: Callable[[int], Awaitable[None]],
    ) -> None:
        self._producer = Producer(connection)
        self._group = group
        self._topic, self._partition = source
        self._ack = ack
        self._committed = 0

    async def open(self) -> int | None:
        offset = await self._producer.committed(self._group, self._topic, self._partition)
        self._committed = offset or 0
        return offset

    async def watermarks(self) -> Watermarks:
        return await self._producer.watermarks(self._topic, self._partition, self._committed)

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        if records:
            await self._producer.produce(records)
        if last:
            await self._producer.produce(last)
        await self._ack(next_offset)

    async def close(self) -> None:
        await self._producer.close()
