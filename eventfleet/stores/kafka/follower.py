"""Follows topics outside consumer groups."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition

from eventfleet.stores.kafka.client_tasks import raise_ended
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import close_quietly, translate_errors
from eventfleet.stores.kafka.reader import to_log_record
from eventfleet.topics.record import LogRecord

POLL_TIMEOUT_MS = 1_000
MAX_POLL_RECORDS = 500


class Follower:
    """LogFollower on Kafka; a consumer for each topic that is followed.

    The broker lets records wait `wait_seconds` for others, to be fetched together.
    """

    def __init__(self, connection: Connection, wait_seconds: float = 0.0) -> None:
        self._connection, self._wait_seconds = connection, wait_seconds

    @asynccontextmanager
    async def follow(self, topic: str, partitions: int) -> AsyncIterator[AsyncIterator[LogRecord]]:
        parts = [TopicPartition(topic, number) for number in range(partitions)]
        consumer = self._connection.consumer(wait_seconds=self._wait_seconds)
        try:
            async with translate_errors(f"following {topic}", self._connection.timeout):
                await consumer.start()
                consumer.assign(parts)
                await consumer.seek_to_end(*parts)
                for part in parts:
                    await consumer.position(part)
            yield self._records(topic, consumer)
        finally:
            await close_quietly(consumer.stop)

    async def _records(self, topic: str, consumer: Any) -> AsyncIterator[LogRecord]:
        while True:
            async with translate_errors(f"following {topic}", self._connection.timeout):
                fetched = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS
                )
                raise_ended(consumer)
            for records in fetched.values():
                for record in records:
                    yield to_log_record(record)
