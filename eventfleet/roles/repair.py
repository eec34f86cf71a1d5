"""Repairs of an event store that its consumer group did not fill: rewind and restore.

A rewind sets append's offsets back, and takes the records again in a new epoch: an event that is
found in the store has a position of an earlier epoch and is not emitted, an event that is inserted
gets one of this epoch and is emitted. A restore copies from `<domain>.stored`, and emits nothing.
Both need every worker and service of the domain to be stopped, and may be repeated when cut off.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import (
    NO_HEAD,
    AssignPosition,
    Clock,
    DomainStores,
    LogAdmin,
    LogReader,
    OffsetRange,
    PartitionWriter,
    Repair,
    Write,
)
from eventfleet.stores.errors import Duplicate, Misconfigured
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.names import Topics, consumer_group

ROLES = {"append": "events", "snapshot": "stored", "relay": "stored", "command": "commands"}
PAGE_EVENTS = 500


@dataclass(frozen=True)
class RepairContext:
    """One domain, its servers, and how its consumer groups are named.

    `writers`, by partition, fence append's owners; none on a broker without transactions.
    """

    domain: Domain[Any]
    stores: DomainStores
    reader: LogReader
    admin: LogAdmin
    clock: Clock
    group_prefix: str
    writers: Mapping[int, PartitionWriter] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.domain.name)

    def group(self, role: str) -> str:
        return consumer_group(self.group_prefix, self.domain.name, role)

    async def take_over(self) -> dict[int, int]:
        """Return append's committed offsets. Misconfigured: a group of the domain has members.

        A zombie of append is fenced, so that it can't move its offset any more.
        """
        for role, kind in ROLES.items():
            topic = getattr(self.topics, kind)
            offsets = await self.reader.committed(self.group(role), topic)
            if offsets:  # as they are: only a group without members takes them
                await self.admin.set_offsets(self.group(role), topic, offsets)
        for writer in self.writers.values():
            await writer.open()
            await writer.close()
        return await self.reader.committed(self.group("append"), self.topics.events)

    async def set_offsets(self, offsets: Mapping[int, int]) -> None:
        await self.admin.set_offsets(self.group("append"), self.topics.events, offsets)


# Rewind


async def rewind(
    context: RepairContext, first: Mapping[int, int] | None = None
) -> list[OffsetRange]:
    """Set append's offsets back; returns the records that append takes again, by partition.

    To where the store says that it was filled, or to `first`, by partition. Snapshots are removed,
    as they may hold what the wrong store had. Misconfigured: the domain is synchronous, an offset
    is not in the log or ahead of the group's, or a group has members.
    """
    name, registry = context.domain.name, context.stores.events.registry
    if context.domain.synchronous:
        raise Misconfigured(
            f"{name} is synchronous: its events are put by commands, and can't be taken from the "
            f"log again; use: eventfleet restore {name}"
        )
    committed = await context.take_over()
    if first is None:
        noted = await registry.next_offsets()
        first = {partition: noted.get(partition, 0) for partition in {*committed, *noted}}
    ranges = await _ranges(context, committed, first)
    if ranges:
        await registry.rewind(ranges, context.clock.now())
        await context.stores.snapshots.clear()
        await context.set_offsets({each.partition: each.first for each in ranges})
    return ranges


async def _ranges(
    context: RepairContext, committed: Mapping[int, int], first: Mapping[int, int]
) -> list[OffsetRange]:
    """Return the ranges to take again; an empty one where the group has lost its offset."""
    topic = context.topics.events
    marks = await context.reader.watermarks(topic)
    ranges: list[OffsetRange] = []
    for partition, start in sorted(first.items()):
        if partition not in marks:
            raise Misconfigured(f"{topic} has no partition {partition}")
        oldest, last = marks[partition]
        end = committed.get(partition, start)
        if not oldest <= start <= min(end, last):
            raise Misconfigured(
                f"{topic}, partition {partition}: can't rewind to offset {start}; the log keeps "
                f"{oldest} to {last}, and the consumer group is at {end}"
            )
        if start < end or partition not in committed:
            ranges.append(OffsetRange(partition, start, end))
    return ranges


# Restore


@dataclass
class RestoreReport:
    """Counts of events: read in `<domain>.stored`, found in the store, filled in, voided."""

    read: int = 0
    found: int = 0
    restored: int = 0
    voided: int = 0
    ranges: list[OffsetRange] = field(default_factory=list)


async def restore(context: RepairContext) -> RestoreReport:
    """Fill the store with what it misses of `<domain>.stored`, by id, version and position.

    Misconfigured: the topic has no record of an event that must come before one of its events, the
    store holds another event in an event's place, or a group has members.
    """
    registry, report = context.stores.events.registry, RestoreReport()
    committed = await context.take_over()
    repairs, noted = await registry.repairs(), await registry.next_offsets()
    ends: dict[int, int] = {}
    for partition, marks in (await context.reader.watermarks(context.topics.stored)).items():
        records = _stored_events(context, partition, *marks)
        last = await _fill(context.stores, records, repairs, report)
        ends[partition] = committed.get(partition, max(noted.get(partition, 0), last + 1))
    report.ranges = [
        OffsetRange(partition, noted.get(partition, 0), end)
        for partition, end in ends.items()
        if end > noted.get(partition, 0)
    ]
    await registry.record_restore(report.ranges, context.clock.now())
    await context.set_offsets({p: end for p, end in ends.items() if p not in committed and end})
    return report


async def _stored_events(
    context: RepairContext, partition: int, oldest: int, end: int
) -> AsyncIterator[EventRecord]:
    topic = context.topics.stored
    async for record in context.reader.read(topic, partition, oldest, end):
        try:
            event = decode_stored(record.value)
            if event.position is None:
                raise InvalidRecord("position", "is missing")
        except InvalidRecord as error:
            where = f"{topic}, partition {partition}, offset {record.offset}"
            raise Misconfigured(f"{where}: not a stored event: {error}") from None
        yield event


async def _fill(
    stores: DomainStores,
    events: AsyncIterator[EventRecord],
    repairs: Sequence[Repair],
    report: RestoreReport,
) -> int:
    """Store what is missing, in pages; return the highest offset in `<domain>.events` seen."""
    page, highest = list[EventRecord](), -1
    async for event in events:
        report.read += 1
        position = Position.parse(event.position or "")
        if any(repair.voids(position) for repair in repairs):
            report.voided += 1
            continue
        highest = max(highest, position.offset)
        page.append(event)
        if len(page) == PAGE_EVENTS:
            await _fill_page(stores, page, report)
            page = []
    if page:
        await _fill_page(stores, page, report)
    return highest


async def _fill_page(
    stores: DomainStores, page: Sequence[EventRecord], report: RestoreReport
) -> None:
    found = await stores.events.find([event.key for event in page])
    heads = await stores.events.heads({event.aggregate_id for event in page})
    versions = {key: head.version for key, head in heads.items()}
    writes: list[Write] = []
    for event in page:
        stored = found.get(event.key)
        if stored == event:
            report.found += 1
            continue
        version = versions.get(event.aggregate_id, NO_HEAD.version)
        writes.append(_fill_in(event, stored, version))
        versions[event.aggregate_id] = max(version, event.version)
        found[event.key] = event
    await _write(stores, writes)
    report.restored += len(writes)


def _fill_in(event: EventRecord, stored: EventRecord | None, version: int) -> Write:
    """Return the write that brings the store's event, or its absence, to this event."""
    where = f"{event.domain}/{event.aggregate_id} version {event.version}"
    if stored is not None:
        if stored.position is None and stored.version == event.version:
            return AssignPosition(stored, Position.parse(event.position or ""))
        raise Misconfigured(
            f"{where} (event {event.id}) is stored as version {stored.version} at position "
            f"{stored.position}, but was published at {event.position}: the store has gone on by "
            "itself; restore into an older copy, or into an empty database"
        )
    if event.version > version + 1:
        raise Misconfigured(
            f"{where}: neither the store nor {event.domain}.stored has version {version + 1}, "
            "which comes before it: the topic no longer keeps it; begin with a newer copy"
        )
    return event


async def _write(stores: DomainStores, writes: Sequence[Write]) -> None:
    while writes:
        try:
            await stores.events.write(writes)
            return
        except Duplicate as clash:
            event = writes[clash.index]
            if isinstance(event, AssignPosition) or not await _is_stored(stores, event):
                raise Misconfigured(
                    f"{clash} by another event: the store has gone on by itself; restore into an "
                    "older copy, or into an empty database"
                ) from None
            writes = writes[clash.index + 1 :]


async def _is_stored(stores: DomainStores, event: EventRecord) -> bool:
    """Check for the event itself, which a first try may have stored whose answer was lost."""
    return (await stores.events.find([event.key])).get(event.key) == event
