"""The lag of a consumer group, partition by partition, as Kafka itself knows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import LogReader


class GroupLag:
    """Reads the log's ends and a group's committed offsets; the difference is the lag.

    The ends are those of all records: also of open transactions, with the markers at their ends.
    """

    def __init__(self, consumer: Any, reader: LogReader, partitions: int) -> None:
        self._consumer, self._reader, self._partitions = consumer, reader, partitions

    async def read(self, group: str, topic: str) -> list[int]:
        """Return the lag of each partition; all of its records where no offset is committed."""
        parts = [TopicPartition(topic, number) for number in range(self._partitions)]
        committed = await self._reader.committed(group, topic)
        ends = await self._consumer.end_offsets(parts)
        return [max(0, ends[part] - committed.get(part.partition, 0)) for part in parts]


@asynccontextmanager
async def open_group_lag(settings: Settings) -> AsyncIterator[GroupLag]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_brokers, isolation_level="read_uncommitted"
    )
    async with connections.log_reader(settings) as reader, consumer:
        yield GroupLag(consumer, reader, settings.partitions)
