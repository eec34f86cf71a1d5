"""The hand-written loops' shared part: chunks fetched ahead, one transaction for each.

The loops use nothing of ours but the user's own functions.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, write_result

OutputRecords: TypeAlias = dict[tuple[str, int], list[tuple[bytes, bytes]]]
"""Keys and values to write, by topic and partition."""

Collection: TypeAlias = AsyncCollection[dict[str, Any]]

HEADERS = [("content-type", b"application/cloudevents+json")]
MAX_QUERY_IDS = 100


class PartitionConsumer:
    """Fetches a partition's records one chunk ahead, and commits by a transactional producer."""

    def __init__(self, task: ContenderTask, consumer: Any, partition: int) -> None:
        self.task, self.partition = task, partition
        self._consumer = consumer
        self._source = TopicPartition(task.topic, partition)
        self._next_fetch: asyncio.Task[list[Any]] | None = None
        self._producer = AIOKafkaProducer(
            bootstrap_servers=task.kafka,
            transactional_id=f"{task.group}-{task.topic}-{partition}",
            transaction_timeout_ms=10_000,
            acks="all",
            max_batch_size=950_000,
        )

    async def open(self) -> None:
        """Fence other owners, then continue from the committed offset."""
        await self._producer.start()
        offset = await self._consumer.committed(self._source)
        self._consumer.seek(self._source, offset or 0)

    async def close(self) -> None:
        if self._next_fetch:
            self._next_fetch.cancel()
        await self._producer.stop()

    async def chunk(self) -> list[Any]:
        """Return the next records, and begin to fetch those after them."""
        records = await (self._next_fetch or self._fetch())
        self._next_fetch = asyncio.create_task(self._fetch())
        return records

    async def _fetch(self) -> list[Any]:
        while True:
            fetched = await self._consumer.getmany(
                self._source, timeout_ms=1000, max_records=self.task.chunk
            )
            if fetched:
                return list(fetched[self._source])

    async def commit(self, output: OutputRecords, next_offset: int) -> None:
        """Write the records and the offset in one transaction."""
        await self._producer.begin_transaction()
        sent = [
            acknowledged
            for (topic, partition), records in output.items()
            for acknowledged in await self._send(topic, partition, records)
        ]
        offsets = {self._source: next_offset}
        sent.append(self._producer.send_offsets_to_transaction(offsets, self.task.group))
        await asyncio.gather(*sent)
        await self._producer.commit_transaction()

    async def _send(
        self, topic: str, partition: int, output: list[tuple[bytes, bytes]]
    ) -> list[Awaitable[Any]]:
        sent = []
        batch = self._producer.create_batch()
        for key, value in output:
            if batch.append(timestamp=None, key=key, value=value, headers=HEADERS) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=HEADERS)
        sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent


ChunkHandler = Callable[[list[Any]], Awaitable[OutputRecords]]
"""Handles a chunk before its transaction and returns the records to write."""


class HandWrittenLoop:
    """Runs all partitions concurrently; each handles a chunk while the one before is committed."""

    def __init__(self, task: ContenderTask, handler: Callable[[int], ChunkHandler]) -> None:
        self.task, self.handler = task, handler
        self.clock = Stopwatch()
        self.value_bytes = 0
        self._remaining = task.records
        self._finished = asyncio.Event()
        self._consumer = AIOKafkaConsumer(
            task.topic,
            bootstrap_servers=task.kafka,
            group_id=task.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=1_048_576 if task.chunk <= 5000 else 4_194_304,
            fetch_max_wait_ms=100,
        )

    async def run(self) -> None:
        """Run until every record is committed."""
        await self._consumer.start()
        consumers = [
            PartitionConsumer(self.task, self._consumer, p) for p in range(self.task.partitions)
        ]
        followers = [
            asyncio.create_task(self._follow_partition(consumer)) for consumer in consumers
        ]
        finished = asyncio.create_task(self._finished.wait())
        done, _ = await asyncio.wait([finished, *followers], return_when=asyncio.FIRST_COMPLETED)
        for task in (finished, *followers):
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        for consumer in consumers:
            await consumer.close()
        await self._consumer.stop()
        for task in done:
            task.result()
        if self._remaining:
            raise RuntimeError("a commit has failed")

    async def _follow_partition(self, consumer: PartitionConsumer) -> None:
        await consumer.open()
        handle = self.handler(consumer.partition)
        previous_commit: asyncio.Task[None] | None = None
        while True:
            records = await consumer.chunk()
            self.clock.start()
            self.value_bytes += sum(len(record.value) for record in records)
            output = await handle(records)
            if previous_commit:
                await previous_commit
            previous_commit = asyncio.create_task(self._commit(consumer, output, records))

    async def _commit(
        self, consumer: PartitionConsumer, output: OutputRecords, records: list[Any]
    ) -> None:
        try:
            await consumer.commit(output, records[-1].offset + 1)
        except BaseException:
            self._finished.set()
            raise
        self._remaining -= len(records)
        if self._remaining == 0:
            self.clock.stop()
            self._finished.set()

    def write_result(self, **settings: str) -> None:
        task, clock = self.task, self.clock
        shared = {
            "chunk": str(task.chunk),
            "fetch": "1 MiB" if task.chunk <= 5000 else "4 MiB",
            "acks": "all, transactional",
            "isolation": "read_committed",
            "compression": "none",
            "event loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
        }
        write_result(
            Result(task.records, clock.seconds, clock.cpu, self.value_bytes, shared | settings)
        )


def new_output() -> OutputRecords:
    return defaultdict(list)


def open_collection(
    task: ContenderTask, client: AsyncMongoClient[dict[str, Any]], kind: str
) -> Collection:
    """Open a collection of the domain, written with majority and journal."""
    return client[task.database].get_collection(
        f"{task.domain}.{kind}",
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
    )


def split_for_queries(items: list[Any]) -> list[list[Any]]:
    """Split a long list into parts, one for each query."""
    return [items[i : i + MAX_QUERY_IDS] for i in range(0, len(items), MAX_QUERY_IDS)]
