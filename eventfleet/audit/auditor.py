"""Verifies invariants 1 to 4 on a domain, partition by partition; also while the fleet works.

The committed offsets are read first, and records that a role has not committed yet are not checked.
Of the logs, only the records that they still keep are checked.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventfleet.audit.checks import (
    check_copies,
    check_log,
    check_snapshots,
    check_versions,
    differs,
)
from eventfleet.audit.logs import (
    DeadLetters,
    TopicCopies,
    read_copies,
    read_dead_letters,
    read_events,
)
from eventfleet.audit.report import AuditReport
from eventfleet.model.domain import Domain
from eventfleet.roles.relay import downstream
from eventfleet.stores.contracts import DomainStores, LogReader, Snapshot, Watermarks
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.topics.partitioner import partition_of

PAGE_SIZE = 500
MAX_CONCURRENT_READS = 4
NO_RECORDS = Watermarks(0, 0)


@dataclass
class PartitionLogs:
    """The logs' contents for one partition.

    `settled`: the part of `.events` that append has committed. `copies`: the events in `.stored`.
    `logged`: event ids in `.events`, by offset. `relayed`: the ids in `.stored` that relay has
    committed. `published`: the newest record of each aggregate in the compacted topic.
    """

    number: int
    settled: Watermarks
    copies: TopicCopies
    logged: dict[int, str] = field(default_factory=dict)
    relayed: set[str] = field(default_factory=set)
    published: dict[str, Snapshot] = field(default_factory=dict)


class Auditor:
    """Audits one domain. `exactly_once`: whether the broker has transactions."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: DomainStores,
        reader: LogReader,
        *,
        group_prefix: str,
        exactly_once: bool,
    ) -> None:
        self._domain, self._stores, self._reader = domain, stores, reader
        self._prefix, self._exactly_once = group_prefix, exactly_once
        self._topics = Topics.of(domain.name)
        self._report = AuditReport(domain.name)
        self._watermarks: dict[str, dict[int, Watermarks]] = {}
        self._routes: dict[str, TopicCopies] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._epoch = 0
        self._events_read = 0

    async def run(self) -> AuditReport:
        """Audit all partitions, and return the report."""
        topics, events = self._topics, self._stores.events
        stored = await events.count()
        self._epoch = await events.registry.epoch()
        appended = await self._committed("append", topics.events)
        relayed = await self._committed("relay", topics.stored)
        routes = sorted({route.to for route in self._domain.routes})
        for topic in (*topics[2:], *routes):
            await self._read_watermarks(topic)
        dead_letters = await self._dead_letters()
        await self._run_all(self._read_route(topic) for topic in routes)
        parts = []
        for number, marks in self._watermarks[topics.events].items():
            settled = Watermarks(marks.oldest, min(appended.get(number, 0), marks.end))
            parts.append(self._audit(number, settled, relayed.get(number, 0), dead_letters))
        await self._run_all(parts)
        if self._events_read < stored:
            await self._check_unlisted()
        self._report.violations.sort()
        self._report.stored = await events.count()
        self._report.snapshots = await self._stores.snapshots.count()
        return self._report

    async def _run_all(self, parts: Iterable[Awaitable[None]]) -> None:
        """Await all parts, MAX_CONCURRENT_READS at a time."""

        async def bounded(part: Awaitable[None]) -> None:
            async with self._slots:
                await part

        try:
            async with asyncio.TaskGroup() as tasks:
                for part in parts:
                    tasks.create_task(bounded(part))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _committed(self, role: str, topic: str) -> dict[int, int]:
        return await self._reader.committed(
            consumer_group(self._prefix, self._domain.name, role), topic
        )

    async def _read_watermarks(self, topic: str) -> None:
        self._watermarks[topic] = watermarks = await self._reader.watermarks(topic)
        self._report.oldest[topic] = {p: marks.oldest for p, marks in sorted(watermarks.items())}

    async def _dead_letters(self) -> DeadLetters:
        topic, report = self._topics.dead_letters, self._report
        dead_letters = await read_dead_letters(
            self._reader, topic, self._watermarks[topic], self._topics.events
        )
        report.dead_letters, report.superseded = dead_letters.count()
        return dead_letters

    async def _read_route(self, topic: str) -> None:
        watermarks = self._watermarks[topic]
        copies = await read_copies(self._reader, self._domain.name, topic, watermarks)
        self._routes[topic] = copies
        self._report.relayed += len(copies.ids)
        self._check_order(copies)

    def _check_order(self, copies: TopicCopies) -> None:
        for event in copies.out_of_order:
            fault = f"version {event.version} is out of order in {copies.topic}"
            self._report.add(4, event.aggregate_id, fault)

    # One partition: the logs first, then every aggregate of the store

    async def _audit(
        self, number: int, settled: Watermarks, relayed: int, dead_letters: DeadLetters
    ) -> None:
        copies = TopicCopies(self._topics.stored, self._watermarks[self._topics.stored])
        part = PartitionLogs(number, settled, copies)
        await self._read_log(part, dead_letters)
        await self._read_stored(part, relayed)
        await self._read_snapshots(part)
        cursor, full = "", True
        while full:
            page = await self._stores.events.aggregates(cursor, PAGE_SIZE, number)
            cursor, full = page.cursor, len(page.items) == PAGE_SIZE
            found = await self._stores.snapshots.latest(page.items, self._domain.state_shape)
            for aggregate_id in page.items:
                await self._check_aggregate(aggregate_id, part, found.get(aggregate_id))

    async def _read_log(self, part: PartitionLogs, dead_letters: DeadLetters) -> None:
        """Check that every settled record is a stored event or has a dead letter."""
        topic, page = self._topics.events, dict[int, EventRecord]()
        async for record, event in read_events(self._reader, topic, part.number, part.settled):
            if event is None:
                if not dead_letters.covers(record):
                    key = (record.key or b"").decode(errors="replace")
                    fault = (
                        f"offset {record.offset} of {topic} is not an event and has no dead letter"
                    )
                    self._report.add(1, key, fault)
                continue
            part.logged[record.offset] = event.id
            if not dead_letters.covers(record):
                page[record.offset] = event
            if len(page) == PAGE_SIZE:
                await self._check_logged(part, page)
                page.clear()
        await self._check_logged(part, page)

    async def _check_logged(self, part: PartitionLogs, page: Mapping[int, EventRecord]) -> None:
        stored = await self._find(page.values())
        for offset, event in page.items():
            found = stored.get(event.key)
            if found is None:
                fault = (
                    f"event {event.id} at offset {offset} of {self._topics.events} is not stored"
                )
                self._report.add(1, event.aggregate_id, fault)
                continue
            placed_here = found.position == str(Position(self._epoch, part.number, offset))
            if placed_here and differs(event, found):
                fault = f"stored version {found.version} differs from the event at offset {offset}"
                self._report.add(1, event.aggregate_id, fault)

    async def _read_stored(self, part: PartitionLogs, relayed: int) -> None:
        """Check that every event in `.stored` equals the stored event, also in version."""
        topic, page = part.copies.topic, list[EventRecord]()
        marks = part.copies.watermarks.get(part.number, NO_RECORDS)
        async for record, event in read_events(self._reader, topic, part.number, marks):
            if event is None or event.position is None:
                key = (record.key or b"").decode(errors="replace")
                self._report.add(4, key, f"offset {record.offset} of {topic} is not a stored event")
                continue
            part.copies.add(event, part.number)
            if record.offset < relayed:
                part.relayed.add(event.id)
            page.append(event)
            if len(page) == PAGE_SIZE:
                await self._check_stored(page, topic)
                page.clear()
        await self._check_stored(page, topic)
        self._check_order(part.copies)

    async def _check_stored(self, page: Sequence[EventRecord], topic: str) -> None:
        stored = await self._find(page)
        for event in page:
            found = stored.get(event.key)
            name = f"version {event.version} (event {event.id}) in {topic}"
            if found is None:
                self._report.add(4, event.aggregate_id, f"{name} is not stored")
            elif found != event:
                self._report.add(4, event.aggregate_id, f"{name} differs from the stored event")

    async def _find(self, events: Iterable[EventRecord]) -> dict[EventKey, EventRecord]:
        keys = [event.key for event in events]
        return await self._stores.events.find(keys) if keys else {}

    async def _read_snapshots(self, part: PartitionLogs) -> None:
        """Read the newest record of each aggregate in the compacted topic."""
        topic = self._topics.snapshots
        marks = self._watermarks[topic].get(part.number, NO_RECORDS)
        if marks.oldest >= marks.end:
            return
        async for record in self._reader.read(topic, part.number, *marks):
            key = (record.key or b"").decode(errors="replace")
            part.published.pop(key, None)
            try:
                part.published[key] = msgspec.json.decode(record.value or b"", type=Snapshot)
            except msgspec.DecodeError as error:
                fault = f"offset {record.offset} of {topic} is not a snapshot: {error}"
                self._report.add(3, key, fault)

    # One aggregate

    async def _check_aggregate(
        self, aggregate_id: str, part: PartitionLogs, snapshot: Snapshot | None
    ) -> None:
        events = [event async for event in self._stores.events.read(aggregate_id)]
        self._report.aggregates += 1
        self._events_read += len(events)
        add_all = self._report.add_all
        add_all(2, aggregate_id, check_versions(events))
        add_all(1, aggregate_id, check_log(events, part.logged, part.settled, self._epoch))
        for event in events:
            add_all(4, aggregate_id, self._check_event(event, part))
        snapshots = await self._snapshots(aggregate_id, snapshot)
        published = part.published.get(aggregate_id)
        if published and published.shape == self._domain.state_shape:
            snapshots.append((f"the record in {self._topics.snapshots}", published))
        add_all(3, aggregate_id, check_snapshots(self._domain, events, snapshots))

    def _check_event(self, event: EventRecord, part: PartitionLogs) -> Iterable[str]:
        """Yield the faults of one event's copies, in topics where a committed offset is past it."""
        if event.position is None:
            return
        appended = Position.parse(event.position).offset < part.settled.end
        if appended and part.copies.must_have(event, part.number):
            yield from check_copies(event, part.copies, self._exactly_once)
        if event.id in part.relayed:
            for record in downstream(self._domain, event):
                route = self._routes[record.topic]
                target = partition_of(event.aggregate_id, len(route.watermarks) or 1)
                if route.must_have(event, target):
                    yield from check_copies(event, route, self._exactly_once)

    async def _snapshots(
        self, aggregate_id: str, newest: Snapshot | None
    ) -> list[tuple[str, Snapshot]]:
        """Return the stored snapshots, from the newest down."""
        found, snapshot = list[tuple[str, Snapshot]](), newest
        shape = self._domain.state_shape
        while snapshot is not None:
            found.append(("the snapshot", snapshot))
            snapshot = await self._stores.snapshots.at(aggregate_id, snapshot.version - 1, shape)
        return found

    async def _check_unlisted(self) -> None:
        """Check aggregates without a version 1, whose events the listing of aggregates omits."""
        checked, cursor, full = set[str](), "", True
        while full:
            page = await self._stores.events.feed(cursor, PAGE_SIZE)
            cursor, full = page.cursor, len(page.items) == PAGE_SIZE
            for aggregate_id in {event.aggregate_id for event in page.items} - checked:
                checked.add(aggregate_id)
                events = [event async for event in self._stores.events.read(aggregate_id, limit=1)]
                if events and events[0].version > 1:
                    self._report.add_all(2, aggregate_id, check_versions(events))
