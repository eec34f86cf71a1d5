"""Restore: fills an event store from `<domain>.stored`, and emits nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from eventfleet.roles.recovery import (
    Reach,
    recover_epoch,
    recover_parked,
    recover_puts,
    recover_registry,
    require_reach,
)
from eventfleet.roles.repair import RepairContext, nearest_in_log
from eventfleet.stores.contracts import (
    AssignPosition,
    DomainStores,
    OffsetRange,
    PlaceParked,
    Repair,
    RepairKind,
    Watermarks,
    Write,
)
from eventfleet.stores.errors import Duplicate, Misconfigured
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventKey, EventRecord, Position

PAGE_EVENTS = 500


@dataclass
class RestoreReport:
    """Counts of events: read in `<domain>.stored`, found in the store, filled in, voided.

    `parked`: events that append parks, and has again; `marked`: discarded ones that have their mark
    again; `put`: those that wait in the log to be appended. `missing` says what is in no topic, and
    `doubts` what may be.
    """

    read: int = 0
    found: int = 0
    restored: int = 0
    voided: int = 0
    parked: int = 0
    marked: int = 0
    put: int = 0
    ranges: list[OffsetRange] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


async def restore(context: RepairContext) -> RestoreReport:
    """Fill the store with what it misses of `<domain>.stored`, by id, version and position.

    What append parks, the marks of discarded events and the registry come from `<domain>.parked`.
    Nothing that is filled in is emitted, so the views are built anew. Where the log does not have
    the group's offset, append goes on from its oldest record, in a new epoch. Misconfigured: the
    topic has no record of an event that must come before one of its events, the store holds another
    event in an event's place, or a group has members.
    """
    registry, report = context.stores.events.registry, RestoreReport()
    committed = await context.take_over()
    reaches = await _reaches(context)
    await recover_registry(context)
    report.doubts = await require_reach(context, reaches, committed)
    void, synchronous = await _find_void(context), context.domain.synchronous
    filling = _Filling(context.stores, void, report, synchronous=synchronous)
    highest = {each.partition: await filling.fill(context, each.partition) for each in reaches}
    await recover_epoch(context, max([0, *chain.from_iterable(highest.values())]))
    noted = await registry.next_offsets()
    first_epoch = await _first_epoch(context)
    ends: dict[int, int] = {}
    for partition, offsets in highest.items():
        last = max((o for epoch, o in offsets.items() if epoch >= first_epoch), default=-1)
        ends[partition] = committed.get(partition, max(noted.get(partition, 0), last + 1))
    await _recover_rest(context, ends, report)
    report.ranges = [
        OffsetRange(partition, noted.get(partition, 0), end)
        for partition, end in ends.items()
        if end > noted.get(partition, 0)
    ]
    await registry.record_restore(report.ranges, context.clock.now())
    await _set_offsets(context, committed, ends)
    await context.copy_registry()
    await context.rebuild_views()
    return report


async def _reaches(context: RepairContext) -> list[Reach]:
    """Find where each partition of `<domain>.stored` begins."""
    reaches: list[Reach] = []
    for partition, marks in (await context.reader.watermarks(context.topics.stored)).items():
        first = None
        for start in range(marks.oldest, marks.end, PAGE_EVENTS):
            page = Watermarks(start, min(start + PAGE_EVENTS, marks.end))
            if events := [event async for event in _stored_events(context, partition, page)]:
                first = Position.parse(events[0].position or "")
                break
        reaches.append(Reach(partition, marks.oldest, first))
    return reaches


async def _recover_rest(
    context: RepairContext, ends: Mapping[int, int], report: RestoreReport
) -> None:
    """Recover what lies beside the placed events."""
    report.parked, marked, missing = await recover_parked(context, ends)
    report.put, lost = await recover_puts(context, ends)
    report.marked += marked
    report.missing = missing + lost


async def _first_epoch(context: RepairContext) -> int:
    """Return the first epoch of the present log: a rewind keeps the log, and raises the epoch."""
    registry = context.stores.events.registry
    epoch, repairs = await registry.epoch(), await registry.repairs()
    rewound = {repair.epoch for repair in repairs if repair.kind is RepairKind.REWIND}
    while epoch in rewound:
        epoch -= 1
    return epoch


async def _set_offsets(
    context: RepairContext, committed: Mapping[int, int], ends: Mapping[int, int]
) -> None:
    """Set the offsets that the group does not have, or the log does not have."""
    marks = await context.reader.watermarks(context.topics.events)
    offsets = {p: nearest_in_log(end, marks[p]) for p, end in ends.items() if p in marks}
    moved = [OffsetRange(p, o, o) for p, o in offsets.items() if o != ends[p]]
    if moved:
        await context.stores.events.registry.rewind(moved, context.clock.now())
    await context.set_offsets({p: o for p, o in offsets.items() if committed.get(p, 0) != o})


async def _stored_events(
    context: RepairContext, partition: int, part: Watermarks | None = None
) -> AsyncIterator[EventRecord]:
    """Yield the events of a partition of `<domain>.stored`, or of a part of it."""
    topic = context.topics.stored
    marks = part or (await context.reader.watermarks(topic))[partition]
    async for record in context.reader.read(topic, partition, *marks):
        try:
            event = decode_stored(record.value)
            if event.position is None:
                raise InvalidRecord("position", "is missing")
        except InvalidRecord as error:
            where = f"{topic}, partition {partition}, offset {record.offset}"
            raise Misconfigured(f"{where}: not a stored event: {error}") from None
        yield event


class _Void(NamedTuple):
    """The rewinds of a store, and the events that append emitted again after one of them."""

    repairs: Sequence[Repair]
    emitted_again: frozenset[EventKey]

    def voids(self, event: EventRecord) -> bool:
        position = Position.parse(event.position or "")
        return any(repair.voids(position) for repair in self.repairs)


async def _find_void(context: RepairContext) -> _Void:
    """Read `<domain>.stored` for what a rewind made void; only where there was one."""
    repairs = await context.stores.events.registry.repairs()
    void = _Void([each for each in repairs if each.kind is RepairKind.REWIND], frozenset())
    if not void.repairs:
        return void
    first, again = set[EventKey](), set[EventKey]()
    for partition in await context.reader.watermarks(context.topics.stored):
        async for event in _stored_events(context, partition):
            if void.voids(event):
                first.add(event.key)
            elif event.key in first:
                again.add(event.key)
    return void._replace(emitted_again=frozenset(again))


class _Filling:
    """Stores what is missing of the events of `<domain>.stored`, in pages."""

    def __init__(
        self, stores: DomainStores, void: _Void, report: RestoreReport, *, synchronous: bool
    ) -> None:
        self._events, self._void, self._report = stores.events, void, report
        self._synchronous = synchronous

    async def fill(self, context: RepairContext, partition: int) -> dict[int, int]:
        """Store what is missing; return by epoch the highest offset in the log of an event."""
        page, highest = list[EventRecord](), dict[int, int]()
        async for event in _stored_events(context, partition):
            self._report.read += 1
            epoch, _, offset = Position.parse(event.position or "")
            highest[epoch] = max(highest.get(epoch, -1), offset)
            page.append(event)
            if len(page) == PAGE_EVENTS:
                await self._fill_page(page)
                page = []
        await self._fill_page(page)
        return highest

    async def _fill_page(self, page: Sequence[EventRecord]) -> None:
        found = await self._events.find([event.key for event in page])
        heads = await self._events.heads({event.aggregate_id for event in page})
        versions = {key: head.version for key, head in heads.items()}
        writes: list[Write] = []
        for event in page:
            stored, version = found.get(event.key), versions.get(event.aggregate_id, 0)
            if stored and _is_same(stored, event):
                self._report.found += 1
                await self._mark(stored, event)
            elif self._void.voids(event) and (
                stored or event.key in self._void.emitted_again or event.version != version + 1
            ):
                self._report.voided += 1
            else:
                writes.append(self._fill_in(event, stored, version))
                if stored:
                    await self._mark(stored, event)
                versions[event.aggregate_id] = max(version, event.version)
                found[event.key] = event
        await self._write(writes)
        self._report.restored += len(writes)

    def _fill_in(self, event: EventRecord, stored: EventRecord | None, version: int) -> Write:
        """Return the write that brings the store's event, or its absence, to this event."""
        where = f"{event.domain}/{event.aggregate_id} version {event.version}"
        if stored is not None:
            if stored.position is None and stored.version == event.version:
                assign = AssignPosition if self._synchronous else PlaceParked
                return assign(stored, Position.parse(event.position or ""))
            raise Misconfigured(
                f"{where} (event {event.id}) is stored as version {stored.version} at position "
                f"{stored.position}, but was published at {event.position}: the store has gone on "
                "by itself; restore into an older copy, or into an empty database"
            )
        if event.version > version + 1:
            raise Misconfigured(
                f"{where}: neither the store nor {event.domain}.stored has version {version + 1}, "
                "which comes before it: the topic no longer keeps it; begin with a newer copy"
            )
        return event

    async def _mark(self, stored: EventRecord, published: EventRecord) -> None:
        """Mark a stored event that was published as discarded."""
        if published.discarded and not stored.discarded:
            await self._events.mark_discarded(stored.key)
            self._report.marked += 1

    async def _write(self, writes: Sequence[Write]) -> None:
        while writes:
            try:
                await self._events.write(writes)
                return
            except Duplicate as clash:
                event = writes[clash.index]
                if not isinstance(event, EventRecord) or not await self._is_stored(event):
                    raise Misconfigured(
                        f"{clash} by another event: the store has gone on by itself; restore into "
                        "an older copy, or into an empty database"
                    ) from None
                writes = writes[clash.index + 1 :]

    async def _is_stored(self, event: EventRecord) -> bool:
        """Check for the event itself, which a first try may have stored whose answer was lost."""
        stored = (await self._events.find([event.key])).get(event.key)
        return stored is not None and _is_same(stored, event)


def _is_same(stored: EventRecord, published: EventRecord) -> bool:
    """Compare, but for the mark of a discarded event, which only the store has, and for the address
    of a waiting caller, which it has not."""
    bare = {"discarded": False, "reply_to": None}
    return replace(stored, **bare) == replace(published, **bare)
