"""KafkaBus: an event bus on a Kafka topic, with a consumer group for each group of subscribers."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from eventfleet.documents.event.bus import KeptDelivery
from eventfleet.documents.event.event import DocumentEvent
from eventfleet.documents.event.handler import Subscriber
from eventfleet.documents.event.serializer import (
    CloudEventsSerializer,
    Serializer,
    decode_if_readable,
)
from eventfleet.documents.event.subscription import SubscriberGroup, SubscriberGroups
from eventfleet.documents.startable import Startable
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import close_quietly, translate_errors
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

BATCH_EVENTS = 100
POLL_MS = 500
STOP_SECONDS = 5.0
JOIN_SECONDS = 30.0
SESSION_SECONDS = 10.0
GROUP, REASON = "eventfleet-group", "eventfleet-reason"
CONTENT_TYPE = ("content-type", b"application/cloudevents+json")


class JoinListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notices that the consumer has joined its group, if only for no partition."""

    def __init__(self) -> None:
        self._joined = asyncio.Event()
        self.wait = self._joined.wait

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Note nothing: what is not committed comes again."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._joined.set()


class KafkaBus(Startable):
    """EventBus on the topic `topic`, which the first start makes, with its dead letters.

    `kafka` names the brokers, or is a Connection. An event's key is its document's id, so that each
    document's events keep their order. A group gets the events that are published after its first
    start. `partitions` and `replication` are those of a topic that is made.
    """

    def __init__(
        self,
        kafka: str | Connection,
        topic: str,
        serializer: Serializer | None = None,
        *,
        partitions: int = 4,
        replication: int = 1,
        session_seconds: float = SESSION_SECONDS,
    ) -> None:
        self._connection = Connection(kafka) if isinstance(kafka, str) else kafka
        self._topic, self._dead_letters = topic, f"{topic}.dead-letters"
        self._specs = [
            TopicSpec(topic, partitions, replication),
            TopicSpec(self._dead_letters, 1, replication, {"cleanup.policy": "compact"}),
        ]
        self._serializer: Serializer = serializer or CloudEventsSerializer()
        self._session_ms = int(session_seconds * 1000)
        self._producer = Producer(self._connection)
        self._joined: dict[str, asyncio.Event] = {}
        self._groups = SubscriberGroups(self._consume)

    async def start(self) -> None:
        """Make the topics that are missing, and join the groups. The error says what is refused."""
        admin = Admin(self._connection)
        await admin.create(self._specs)
        await admin.close()
        self._groups.start()
        async with self._translating("joining the groups", JOIN_SECONDS):
            for group in self._groups.all():
                await self._joined.setdefault(group.name, asyncio.Event()).wait()

    async def stop(self) -> None:
        await self._groups.stop(STOP_SECONDS)
        await self._producer.close()
        self._joined.clear()

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        await self._producer.produce([self._record(event) for event in events])

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        self._groups.subscribe(pattern, subscriber, group)

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        reader, found = Reader(self._connection), dict[str, LogRecord]()
        try:
            for partition, bounds in (await reader.watermarks(self._dead_letters)).items():
                records = reader.read(self._dead_letters, partition, bounds.oldest, bounds.end)
                async for record in records:
                    key = (record.key or b"").decode()
                    found.pop(key, None)
                    if record.value is not None:
                        found[key] = record
        finally:
            await reader.close()
        return [self._kept(key, record) for key, record in [*found.items()][:limit]]

    async def redeliver(self, kept: KeptDelivery) -> None:
        key = kept.event.aggregate_id.encode() if kept.event else None
        headers = (CONTENT_TYPE, (GROUP, kept.group.encode()))
        again = ProducerRecord(self._topic, key, kept.value, headers=headers)
        await self._producer.produce([again])
        await self._producer.produce([ProducerRecord(self._dead_letters, kept.id.encode(), None)])

    async def _consume(self, group: SubscriberGroup) -> None:
        joined = JoinListener()
        consumer = AIOKafkaConsumer(
            group_id=f"{self._topic}.{group.name}",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=self._session_ms // 4,
            **self._connection.options(),
        )
        try:
            async with self._translating(f"joining {group.name}", JOIN_SECONDS):
                await consumer.start()
                consumer.subscribe([self._topic], listener=joined)
                await self._hold_positions(consumer, joined)
            self._joined.setdefault(group.name, asyncio.Event()).set()
            while not self._groups.is_stopping:
                async with self._translating(f"reading for {group.name}", JOIN_SECONDS):
                    batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_EVENTS)
                self._groups.report_well(group)
                for partition, records in batches.items():
                    await self._handle_all(group, consumer, partition, records)
        finally:
            await close_quietly(consumer.stop)

    async def _hold_positions(self, consumer: Any, joined: "JoinListener") -> None:
        """Commit where a new group begins, so that it goes on there whoever consumes."""
        await joined.wait()
        new = {
            partition: await consumer.position(partition)
            for partition in consumer.assignment()
            if await consumer.committed(partition) is None
        }
        if new:
            await consumer.commit(new)

    async def _handle_all(
        self, group: SubscriberGroup, consumer: Any, partition: Any, records: Sequence[Any]
    ) -> None:
        for record in records:
            if self._groups.is_stopping:
                return
            with self._groups.delivering():
                if reason := await group.deliver_value(
                    record.value or b"", self._serializer, _given_again_to(record)
                ):
                    await self._keep(group, record, reason)
                async with self._translating(f"committing for {group.name}", JOIN_SECONDS):
                    await consumer.commit({partition: record.offset + 1})

    async def _keep(self, group: SubscriberGroup, record: Any, reason: str) -> None:
        id = f"{group.name}/{record.partition}/{record.offset}"
        headers = ((GROUP, group.name.encode()), (REASON, reason.encode()))
        value = record.value or b""  # without a value it would be deleted
        kept = ProducerRecord(self._dead_letters, id.encode(), value, headers=headers)
        await self._producer.produce([kept])

    def _record(self, event: DocumentEvent) -> ProducerRecord:
        key, value = event.aggregate_id.encode(), self._serializer.encode(event)
        return ProducerRecord(self._topic, key, value, headers=(CONTENT_TYPE,))

    def _kept(self, id: str, record: LogRecord) -> KeptDelivery:
        headers, value = dict(record.headers), record.value or b""
        return KeptDelivery(
            id,
            headers[GROUP].decode(),
            decode_if_readable(self._serializer, value),
            headers[REASON].decode(),
            datetime.fromtimestamp(record.timestamp / 1000, UTC),
            value,
        )

    def _translating(self, what: str, seconds: float) -> AbstractAsyncContextManager[None]:
        return translate_errors(f"{what}, topic {self._topic}", seconds)


def _given_again_to(record: Any) -> str | None:
    group = dict(record.headers).get(GROUP)
    return None if group is None else group.decode()
