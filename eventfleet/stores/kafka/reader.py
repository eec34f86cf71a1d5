"""Reads topics outside consumer groups."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import TopicPartition

from eventfleet.stores.contracts import TopicState, Watermarks
from eventfleet.stores.kafka.client_tasks import raise_ended
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import close_quietly, retry_request, translate_errors
from eventfleet.stores.kafka.offsets import fetch_committed
from eventfleet.stores.kafka.topic_states import fetch_topic_states
from eventfleet.stores.kafka.transactional_writer import TRANSACTION_TIMEOUT_SECONDS
from eventfleet.stores.kafka.watermarks import fetch_leaders, fetch_watermarks
from eventfleet.topics.record import LogRecord

POLL_TIMEOUT_MS = 20


class Reader:
    """LogReader on Kafka."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: Any = None
        self._starting = asyncio.Lock()

    async def partition_count(self, topic: str) -> int:
        async with translate_errors(f"looking for {topic}", self._connection.timeout):
            await self._start()
            return len(await retry_request(lambda: fetch_leaders(self._client, topic)))

    async def topic_states(self, topics: Sequence[str]) -> dict[str, TopicState]:
        async with translate_errors("looking at topics", self._connection.timeout):
            await self._start()
            return await retry_request(lambda: fetch_topic_states(self._client, topics))

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        """Return the watermarks; an end is behind the records of open transactions."""
        async with translate_errors(f"reading the watermarks of {topic}", self._connection.timeout):
            await self._start()
            return await fetch_watermarks(self._client, topic)

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        """Stream the records, waiting for open transactions below `end`.

        Records that are no longer kept, or not yet written when it begins, are left out.
        ServerUnavailable: nothing moves any more.
        """
        oldest, last = (await self.watermarks(topic)).get(partition, Watermarks(0, 0))
        start, end = max(start, oldest), min(end, last)
        if start >= end:
            return
        part = TopicPartition(topic, partition)
        what = f"reading {topic}/{partition}"
        consumer = self._connection.consumer()
        try:
            async with translate_errors(what, self._connection.timeout):
                await consumer.start()
                consumer.assign([part])
                consumer.seek(part, start)
            while start < end:
                async with translate_errors(
                    what, self._connection.timeout + TRANSACTION_TIMEOUT_SECONDS
                ):
                    batch, start = await _next(consumer, part)
                for record in batch:
                    if record.offset < end:
                        yield to_log_record(record)
        finally:
            await close_quietly(consumer.stop)

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        async with translate_errors(f"reading the offsets of {group}", self._connection.timeout):
            await self._start()
            partitions = await retry_request(lambda: fetch_leaders(self._client, topic))
            return await fetch_committed(self._client, group, topic, [*partitions])

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_quietly(client.close)

    async def _start(self) -> None:
        async with self._starting:
            if self._client is None:
                client = self._connection.client()
                try:
                    await client.bootstrap()
                except BaseException:
                    await close_quietly(client.close)
                    raise
                self._client = client


async def _next(consumer: Any, part: TopicPartition) -> tuple[list[Any], int]:
    """Return the next records, and the position after them and any control records."""
    start = await consumer.position(part)
    while True:
        fetched = await consumer.getmany(part, timeout_ms=POLL_TIMEOUT_MS)
        raise_ended(consumer)
        position = await consumer.position(part)
        if position > start:
            return fetched.get(part, []), position


def to_log_record(record: Any) -> LogRecord:
    """Convert a record of the client."""
    return LogRecord(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )
