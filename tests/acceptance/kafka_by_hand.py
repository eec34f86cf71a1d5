"""Kafka through a plain client, without the product's code."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.admin import DeleteGroupsRequest

WAIT_SECONDS = 180.0
RECONNECT_SECONDS = 60.0
FETCH_MILLISECONDS = 10
"""How long a fetch without records waits in the broker: until then it answers nothing behind it."""
T = TypeVar("T")


class NewRecord(NamedTuple):
    """A record to write; without a partition its key decides."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def wait_for(condition: Callable[[], T], what: str = "the condition") -> T:
    """Wait until the condition is true; its value."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return answer


class KafkaByHand:
    """Reads committed records, writes, and changes topics and offsets. Every call connects anew."""

    def __init__(self, address: str) -> None:
        self.address = address

    def records(self, *topics: str) -> list[Any]:
        """All committed records of these topics, by partition and offset."""
        return self._with_consumer(lambda consumer: _read(consumer, topics, {}))

    def waiting(self, group: str, topic: str) -> list[Any]:
        """The committed records that a group has not passed."""

        async def read(consumer: Any) -> list[Any]:
            return await _read(consumer, [topic], await _offsets(consumer, [topic]))

        return self._with_consumer(read, group_id=group)

    def has_passed(self, group: str, topic: str) -> bool:
        """Check that a group has passed all records of a topic, also those of open transactions.

        A transaction's offsets may be seen a moment before its records.
        """
        return not self.open_partitions(topic) and not self.waiting(group, topic)

    def open_partitions(self, topic: str) -> set[TopicPartition]:
        """The partitions that a transaction is open in: their last records are not committed."""

        async def ends(consumer: Any) -> dict[TopicPartition, int]:
            found: dict[TopicPartition, int] = await consumer.end_offsets(
                await _partitions(consumer, [topic])
            )
            return found

        stable = self._with_consumer(ends)
        last = self._with_consumer(ends, isolation_level="read_uncommitted")
        return {part for part, end in last.items() if end > stable[part]}

    def offsets(self, group: str, *topics: str) -> dict[TopicPartition, int]:
        """The committed offsets of a group."""
        return self._with_consumer(lambda consumer: _offsets(consumer, topics), group_id=group)

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the offsets of a group that has no members."""

        async def commit(consumer: Any) -> None:
            consumer.assign(list(offsets))
            await consumer.commit(dict(offsets))

        self._with_consumer(commit, group_id=group)

    def produce(self, records: Iterable[Any]) -> None:
        """Append records, NewRecord or as read from a topic, to their partitions."""

        async def produce() -> None:
            options = {"enable_idempotence": True, "bootstrap_servers": self.address}
            async with AIOKafkaProducer(**options) as producer:
                sent = [
                    await producer.send(
                        record.topic,
                        key=record.key,
                        value=record.value,
                        partition=record.partition,
                        headers=list(record.headers),
                    )
                    for record in records
                ]
                await asyncio.gather(*sent)

        run(produce())

    def topics(self) -> set[str]:
        return set(self._with_admin(lambda admin: admin.list_topics()))

    def delete(self, topics: Iterable[str]) -> None:
        if doomed := sorted(self.topics() & set(topics)):
            self._with_admin(lambda admin: admin.delete_topics(doomed))
            wait_for(lambda: not self.topics() & set(doomed), "the end of topics")

    def limit(self, topic: str, record_bytes: int) -> None:
        """Have the topic refuse larger records."""
        config = {"max.message.bytes": str(record_bytes)}
        limits = ConfigResource(ConfigResourceType.TOPIC, topic, config)
        self._with_admin(lambda admin: admin.alter_configs([limits]))

    def truncate(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records of each partition before an offset."""
        doomed = {TopicPartition(topic, p): RecordsToDelete(o) for p, o in before.items()}
        self._with_admin(lambda admin: admin.delete_records(doomed))

    def delete_groups(self, *groups: str) -> None:
        """Delete consumer groups that have no members, with their offsets."""

        async def delete(admin: Any) -> list[tuple[str, int]]:
            node = await admin.find_coordinator(groups[0])
            response = await admin._send_request(DeleteGroupsRequest(list(groups)), node)
            return list(response.results)

        refused = [each for each in self._with_admin(delete) if each[1]]
        assert not refused, refused

    def _with_consumer(self, act: Callable[[Any], Coroutine[Any, Any, T]], **options: Any) -> T:
        """Use a new consumer; retried, as a broker that was stopped may drop the first."""

        async def consume() -> T:
            wanted = {"isolation_level": "read_committed", "enable_auto_commit": False, **options}
            wanted["fetch_max_wait_ms"] = FETCH_MILLISECONDS
            async with AIOKafkaConsumer(bootstrap_servers=self.address, **wanted) as consumer:
                return await act(consumer)

        return run(retry(consume, KafkaError))

    def _with_admin(self, act: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Use a new admin client; retried, as a broker that has just started may be unready."""

        async def administer() -> T:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
            await admin.start()
            try:
                return await act(admin)
            finally:
                await admin.close()

        return run(retry(administer, NodeNotReadyError))


async def retry(connect: Callable[[], Coroutine[Any, Any, T]], kind: type[Exception]) -> T:
    """Connect, again after errors of this kind, for RECONNECT_SECONDS."""
    deadline = time.monotonic() + RECONNECT_SECONDS
    while True:
        try:
            return await connect()
        except kind:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(0.2)


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(WAIT_SECONDS):
            return await work

    return asyncio.run(bounded())


async def _partitions(consumer: Any, topics: Sequence[str]) -> list[TopicPartition]:
    await consumer._client.force_metadata_update()
    found = {topic: consumer.partitions_for_topic(topic) for topic in topics}
    if None in found.values():
        cluster = await consumer._client.fetch_all_metadata()
        found = {topic: cluster.partitions_for_topic(topic) for topic in topics}
    return [TopicPartition(topic, p) for topic in topics for p in sorted(found[topic] or ())]


async def _offsets(consumer: Any, topics: Sequence[str]) -> dict[TopicPartition, int]:
    parts = await _partitions(consumer, topics)
    consumer.assign(parts)
    found = {part: await consumer.committed(part) for part in parts}
    return {part: offset for part, offset in found.items() if offset is not None}


async def _read(
    consumer: Any, topics: Sequence[str], start: Mapping[TopicPartition, int]
) -> list[Any]:
    parts = await _partitions(consumer, topics)
    consumer.assign(parts)
    oldest = await consumer.beginning_offsets(parts)
    ends = await consumer.end_offsets(parts)
    for part in parts:
        consumer.seek(part, max(start.get(part, 0), oldest[part]))
    found: list[Any] = []
    while any([await consumer.position(part) < ends[part] for part in parts]):
        for records in (await consumer.getmany(*parts, timeout_ms=100)).values():
            found += records
    return sorted(found, key=lambda record: (record.topic, record.partition, record.offset))
