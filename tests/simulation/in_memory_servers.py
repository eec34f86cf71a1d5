"""The servers of one domain with one partition, in memory and without a scheduler."""

from datetime import UTC, datetime, timedelta
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import (
    MemoryLog,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

START = datetime(2025, 1, 1, tzinfo=UTC)


class HandClock:
    def __init__(self) -> None:
        self.time = START
        self._set_by = timedelta()

    def now(self) -> datetime:
        return self.time

    def steady(self) -> datetime:
        return self.time - self._set_by

    def set(self, by: timedelta) -> None:
        """Set the wall time, as its keeper may."""
        self.time += by
        self._set_by += by

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class InMemoryServers:
    def __init__(self, domain: Domain[Any]) -> None:
        self.domain, self.topics = domain, domain.topics
        self.log, self.clock = MemoryLog(), HandClock()
        self.events, self.snapshots = MemoryEvents(), MemorySnapshots()
        self.dead_letters = MemoryDeadLetters()
        self.views = MemoryViews()
        self.stores = DomainStores(self.events, self.snapshots, self.views, self.dead_letters)
        for topic in {*self.topics, *(route.to for route in domain.routes)}:
            self.log.create(TopicSpec(topic, 1, 1))

    def writer(self, role: str) -> MemoryTransactionalWriter:
        source = self.topics.events if role == "append" else self.topics.stored
        return MemoryTransactionalWriter(self.log, role, source, 0)

    def parking(self, role: str, **options: Any) -> Parking:
        return Parking(self.domain.topics, role, 0, self.dead_letters, self.clock, **options)

    def logged_parking(self, role: str) -> LoggedParking:
        log = TopicParkedLog(self.topics, MemoryReader(self.log))
        return LoggedParking(self.domain.topics, role, 0, self.dead_letters, self.clock, log)

    def append_parking(self, **options: Any) -> AppendParking:
        return AppendParking(
            *(self.domain.topics, 0, self.dead_letters, self.clock, self.events),
            MemoryProducer(self.log),
            **options,
        )

    def event(self, n: str, aggregate_id: str = "a", **named: Any) -> EventRecord:
        wanted: dict[str, Any] = {"type": "Counted", "data": {"n": n}, "time": self.clock.now()}
        wanted["domain"] = self.domain.name
        return EventRecord(id=n, aggregate_id=aggregate_id, **(wanted | named))

    async def store(self, n: str, aggregate_id: str = "a", **named: Any) -> EventRecord:
        """The aggregate's next event, in the store as append leaves it."""
        version = len(await self.history(aggregate_id)) + 1
        position = f"0-0-{await self.events.count()}"
        event = self.event(n, aggregate_id, version=version, position=position, **named)
        await self.events.write([event])
        return event

    async def append(self, n: str, aggregate_id: str = "a", **named: Any) -> list[LogRecord]:
        """The aggregate's next event, stored and emitted: its record."""
        await self.emit(self.topics.stored, await self.store(n, aggregate_id, **named))
        return self.records(self.topics.stored)[-1:]

    async def emit(self, topic: str, *events: EventRecord) -> None:
        await self.put(topic, *((event.aggregate_id, encode(event)) for event in events))

    async def put(self, topic: str, *records: tuple[str, bytes]) -> None:
        out = [ProducerRecord(topic, key.encode(), value, 0) for key, value in records]
        await MemoryProducer(self.log).produce(out)

    def records(self, topic: str) -> list[LogRecord]:
        """The committed records."""
        found = (
            e for e in self.log.entries(topic, 0) if not (e.transaction and e.transaction.aborted)
        )
        return [entry.record for entry in found if entry.record]

    def seen(self, topic: str) -> list[EventRecord]:
        return [decode(record.value) for record in self.records(topic)]

    def offset(self, role: str) -> int | None:
        writer = self.writer(role)
        return self.log.offsets.get(writer.source)

    async def logged(self, role: str) -> ParkedEntries:
        """What `<domain>.parked` has of a role."""
        return await TopicParkedLog(self.topics, MemoryReader(self.log)).load(role, 0)

    async def logged_events(self) -> list[EventRecord]:
        """The events that append parks, as `<domain>.parked` has them."""
        log = TopicParkedLog(self.topics, MemoryReader(self.log))
        return [event async for event in log.parked_events(0)]

    async def history(self, aggregate_id: str = "a") -> list[EventRecord]:
        return [event async for event in self.events.read(aggregate_id)]


async def take(role: Role, records: list[LogRecord]) -> ChunkReport:
    """All records as one chunk."""
    return await role.process(records, records[-1].offset + 1)
