"""What the hand-written loops have in common: chunks fetched ahead, one transaction for each.

Nothing here or in the loops is ours but the user's own functions.
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

from benchmarks.contenders.task import Clock, Result, Task, told

Rows: TypeAlias = dict[tuple[str, int], list[tuple[bytes, bytes]]]
"""Keys and values to write, by topic and partition."""

Collection: TypeAlias = AsyncCollection[dict[str, Any]]

HEADERS = [("content-type", b"application/cloudevents+json")]
IN_ONE_QUERY = 100


class Stage:
    """One partition: its records, fetched one chunk ahead, and its transactional producer."""

    def __init__(self, task: Task, consumer: Any, partition: int) -> None:
        self.task, self.partition = task, partition
        self._consumer = consumer
        self._source = TopicPartition(task.topic, partition)
        self._ahead: asyncio.Task[list[Any]] | None = None
        self._producer = AIOKafkaProducer(
            bootstrap_servers=task.kafka,
            transactional_id=f"{task.group}-{task.topic}-{partition}",
            transaction_timeout_ms=10_000,
            acks="all",
            max_batch_size=950_000,
        )

    async def open(self) -> None:
        """Fence, then go on from what is committed."""
        await self._producer.start()
        offset = await self._consumer.committed(self._source)
        self._consumer.seek(self._source, offset or 0)

    async def close(self) -> None:
        if self._ahead:
            self._ahead.cancel()
        await self._producer.stop()

    async def chunk(self) -> list[Any]:
        """The next records; the fetch of those after them begins."""
        records = await (self._ahead or self._fetch())
        self._ahead = asyncio.create_task(self._fetch())
        return records

    async def _fetch(self) -> list[Any]:
        while True:
            got = await self._consumer.getmany(
                self._source, timeout_ms=1000, max_records=self.task.chunk
            )
            if got:
                return list(got[self._source])

    async def commit(self, rows: Rows, next_offset: int) -> None:
        """Write the rows and the offset in one transaction."""
        await self._producer.begin_transaction()
        sent = [
            acknowledged
            for (topic, partition), some in rows.items()
            for acknowledged in await self._send(topic, partition, some)
        ]
        offsets = {self._source: next_offset}
        sent.append(self._producer.send_offsets_to_transaction(offsets, self.task.group))
        await asyncio.gather(*sent)
        await self._producer.commit_transaction()

    async def _send(
        self, topic: str, partition: int, rows: list[tuple[bytes, bytes]]
    ) -> list[Awaitable[Any]]:
        sent = []
        batch = self._producer.create_batch()
        for key, value in rows:
            if batch.append(timestamp=None, key=key, value=value, headers=HEADERS) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=HEADERS)
        sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent


Handle = Callable[[list[Any]], Awaitable[Rows]]
"""Does what is to be done for a chunk before its transaction; the rows to write."""


class Loop:
    """All partitions side by side; within one, a chunk is handled while the last is committed."""

    def __init__(self, task: Task, handler: Callable[[int], Handle]) -> None:
        self.task, self.handler = task, handler
        self.clock = Clock()
        self.check = 0
        self._left = task.records
        self._through = asyncio.Event()
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
        """Until every record is through."""
        await self._consumer.start()
        stages = [Stage(self.task, self._consumer, p) for p in range(self.task.partitions)]
        work = [asyncio.create_task(self._follow(stage)) for stage in stages]
        through = asyncio.create_task(self._through.wait())
        done, _ = await asyncio.wait([through, *work], return_when=asyncio.FIRST_COMPLETED)
        for task in (through, *work):
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for stage in stages:
            await stage.close()
        await self._consumer.stop()
        for task in done:
            task.result()
        if self._left:
            raise RuntimeError("a commit has failed")

    async def _follow(self, stage: Stage) -> None:
        await stage.open()
        handle = self.handler(stage.partition)
        before: asyncio.Task[None] | None = None
        while True:
            records = await stage.chunk()
            self.clock.start()
            self.check += sum(len(record.value) for record in records)
            rows = await handle(records)
            if before:
                await before
            before = asyncio.create_task(self._commit(stage, rows, records))

    async def _commit(self, stage: Stage, rows: Rows, records: list[Any]) -> None:
        try:
            await stage.commit(rows, records[-1].offset + 1)
        except BaseException:
            self._through.set()
            raise
        self._left -= len(records)
        if self._left == 0:
            self.clock.stop()
            self._through.set()

    def tell(self, **settings: str) -> None:
        task, clock = self.task, self.clock
        common = {
            "chunk": str(task.chunk),
            "fetch": "1 MiB" if task.chunk <= 5000 else "4 MiB",
            "acks": "all, transactional",
            "isolation": "read_committed",
            "compression": "none",
            "event loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
        }
        told(Result(task.records, clock.seconds, clock.cpu, self.check, common | settings))


def rows() -> Rows:
    return defaultdict(list)


def collection(task: Task, client: AsyncMongoClient[dict[str, Any]], kind: str) -> Collection:
    """A collection of the domain, written with majority and journal."""
    return client[task.database].get_collection(
        f"{task.domain}.{kind}",
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
    )


def split(items: list[Any]) -> list[list[Any]]:
    """Parts of a long list, for one query each."""
    return [items[i : i + IN_ONE_QUERY] for i in range(0, len(items), IN_ONE_QUERY)]
