"""Recovery: a lost store gets back from the log what it held beside its placed events.

That is its registry, what append parks, the marks of discarded events, the listings of what is
parked, and what was put and waits in `<domain>.events` for append.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from eventfleet.roles.repair import ROLES, RepairContext
from eventfleet.stores.contracts import (
    NO_HEAD,
    OffsetNote,
    ParkEvent,
    RegistryFacts,
    RepairKind,
    VersionRange,
)
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.errors import Duplicate, Misconfigured
from eventfleet.topics.codec import decode, decode_stored
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.parked import ParkedAggregate

PAGE_EVENTS = 500
MARKING_ROLES = ("append", "snapshot")
"""The roles whose discards mark the event itself."""


# The registry


async def recover_registry(context: RepairContext) -> None:
    """Add to the registry what the log's copy of it, the topics and the groups' offsets say."""
    registry = context.stores.events.registry
    await registry.recover(await context.parked_log.registry_facts() or RegistryFacts())
    for role, kind in ROLES.items():
        if role != "append":
            topic = getattr(context.topics, kind)
            for partition in await context.reader.committed(context.group(role), topic):
                await registry.note_begun(role, partition)


async def recover_epoch(context: RepairContext, epoch: int) -> None:
    """Have the store's epoch be at least that of its newest event."""
    registry = context.stores.events.registry
    newest = max(epoch, await context.stores.events.newest_epoch())
    if newest > await registry.epoch():
        await registry.recover(RegistryFacts(newest))
    if count := len(await context.reader.watermarks(context.topics.events)):
        await registry.register_partition_count(count)


class Reach(NamedTuple):
    """The beginning of a partition of `<domain>.stored`: its oldest offset and event, if any."""

    partition: int
    oldest: int
    first: Position | None


async def require_reach(
    context: RepairContext, reaches: Sequence[Reach], committed: Mapping[int, int]
) -> list[str]:
    """Check that the store has what the topic no longer keeps.

    Misconfigured: it has not. Returns a sentence for each partition of which nobody can know it.
    """
    registry, doubts = context.stores.events.registry, list[str]()
    repairs, epoch = await registry.repairs(), await registry.epoch()
    rewound = {repair.epoch for repair in repairs if repair.kind is RepairKind.REWIND}
    for partition, oldest, first in reaches:
        note = await registry.last_note(partition) or OffsetNote(0, 0)
        begin = first or Position(epoch, partition, committed.get(partition, 0))
        if note >= (begin.epoch, begin.offset):
            continue
        where = f"{context.topics.stored}, partition {partition}"
        filled = f"this store was filled up to offset {note.next_offset} of epoch {note.epoch}"
        if oldest:
            raise Misconfigured(
                f"{where} keeps no record before offset {oldest}, and so no event before position "
                f"{begin}, but {filled}: what lies between is in no topic. Begin with a newer copy "
                "of the store"
            )
        if any(each not in rewound for each in range(1, begin.epoch + 1)):
            doubts.append(
                f"{where} begins in epoch {begin.epoch}, and {filled}: where events were stored "
                "in an earlier epoch, those that this store lacks are in no topic"
            )
    return doubts


# What is parked, and what was discarded


class RecoveredDecisions(NamedTuple):
    """The counts of a recovery: events that append parks, marks of discarded events; and in
    sentences what is in no topic."""

    parked: int
    marked: int
    missing: list[str]


async def recover_parked(context: RepairContext, ends: Mapping[int, int]) -> RecoveredDecisions:
    """Recover what append parks, the marks of discarded events, and the listings.

    `ends`: append's offsets, below which each parked event was refused.
    """
    parked, marked, missing = 0, 0, list[str]()
    for partition in await context.reader.watermarks(context.topics.parked):
        entries = await context.parked_log.load_all(partition)
        parked += await _park_events(context, partition, ends.get(partition, 0))
        for role in MARKING_ROLES:
            marked += await _mark(context, entries.get(role, ParkedEntries([], [])))
        await _list(context, partition, entries)
        if append := entries.get("append"):
            missing += await _find_missing(context, append.parked)
    return RecoveredDecisions(parked, marked, missing)


async def _park_events(context: RepairContext, partition: int, end: int) -> int:
    """Store the events that append parks and the store lacks; return how many."""
    events, parked = context.stores.events, 0
    position = Position(await events.registry.epoch(), partition, max(end - 1, 0))
    logged = context.parked_log.parked_events(partition)
    async for page in _pages(logged):
        found = await events.find([event.key for event in page])
        for event in page:
            if event.key not in found:
                await _park(context, ParkEvent(event, position))
                parked += 1
    return parked


async def _park(context: RepairContext, write: ParkEvent) -> None:
    try:
        await context.stores.events.write([write])
    except Duplicate as clash:
        found = await context.stores.events.find([write.event.key])
        if found.get(write.event.key) != write.event:
            raise Misconfigured(
                f"{clash}: append parks another event there, so the store has gone on by itself; "
                "restore into an older copy, or into an empty database"
            ) from None


async def _mark(context: RepairContext, entries: ParkedEntries) -> int:
    """Mark the discarded events that the store has without the mark; return how many."""
    events = context.stores.events
    keys = [EventKey(each.aggregate_id, each.event_id) for each in entries.discarded]
    found = await events.find(keys)
    unmarked = [key for key, event in found.items() if not event.discarded]
    for key in unmarked:
        await events.mark_discarded(key)
    return len(unmarked)


async def _list(
    context: RepairContext, partition: int, entries: Mapping[str, ParkedEntries]
) -> None:
    """Have the dead-letter store list what the log says, and the tombstones."""
    if (letters := context.stores.dead_letters) is None:
        return
    for role in ROLES:
        parked, discarded = entries.get(role, ParkedEntries([], []))
        listed = {each.aggregate_id: each for each in await letters.parked_in(role, partition)}
        kept = {each.aggregate_id for each in parked}
        await letters.unpark(role, listed.keys() - kept)
        await letters.park([each for each in parked if listed.get(each.aggregate_id) != each])
        await letters.note_discarded(discarded)


async def _find_missing(context: RepairContext, parked: Sequence[ParkedAggregate]) -> list[str]:
    """Say which events that append parks the store has not got back, and what to do."""
    events, name, missing = context.stores.events, context.domain.name, list[str]()
    for each in parked:
        head = (await events.heads([each.aggregate_id])).get(each.aggregate_id, NO_HEAD)
        wanted = VersionRange(each.aggregate_id, max(each.first - 1, head.placed), each.last)
        lacking = wanted.up_to - wanted.after - len(await events.unplaced([wanted]))
        if lacking <= 0:
            continue
        offset = await _first_unstored(context, each)
        repair = "the log no longer keeps their records: begin with a newer copy of the store"
        if offset is not None:
            repair = f"eventfleet rewind {name} --partition {each.partition} --offset {offset}"
        missing.append(
            f"{lacking} events of {each.aggregate_id!r}, versions {wanted.after + 1} to "
            f"{each.last}, which append parks, are not in {context.topics.parked}: {repair}"
        )
    return missing


async def _first_unstored(context: RepairContext, parked: ParkedAggregate) -> int | None:
    """Return the offset of the first record of an aggregate in the log that is not stored."""
    topic, partition = context.topics.events, parked.partition
    marks = (await context.reader.watermarks(topic))[partition]
    async for record in context.reader.read(topic, partition, *marks):
        if record.key == parked.aggregate_id.encode():
            try:
                key = decode(record.value).key
            except InvalidRecord:
                continue
            if not await context.stores.events.find([key]):
                return record.offset
    return None


# What was put, and waits in the log


async def recover_puts(context: RepairContext, ends: Mapping[int, int]) -> tuple[int, list[str]]:
    """Put again the events of a synchronous domain that wait in the log for append.

    Returns how many, and a sentence for each that can't be put, as one before it is lost.
    """
    if not context.domain.synchronous:
        return 0, []
    put, missing = 0, list[str]()
    for partition, marks in (await context.reader.watermarks(context.topics.events)).items():
        waiting = _waiting(context, partition, max(ends.get(partition, 0), marks.oldest), marks.end)
        async for page in _pages(waiting):
            found = await context.stores.events.find([event.key for event in page])
            for event in page:
                if event.key not in found:
                    fault = await _put(context, partition, event)
                    put += not fault
                    missing += [fault] if fault else []
    return put, missing


async def _waiting(
    context: RepairContext, partition: int, start: int, end: int
) -> AsyncIterator[EventRecord]:
    """Yield the events that wait in the log, each once."""
    seen = set[EventKey]()
    async for record in context.reader.read(context.topics.events, partition, start, end):
        try:
            event = decode_stored(record.value)
        except InvalidRecord:
            continue
        if event.version and event.key not in seen:
            seen.add(event.key)
            yield event


async def _put(context: RepairContext, partition: int, event: EventRecord) -> str:
    """Put an event where it comes next in its aggregate; else say why not."""
    events = context.stores.events
    head = (await events.heads([event.aggregate_id])).get(event.aggregate_id, NO_HEAD)
    where = f"{event.aggregate_id!r} version {event.version} (event {event.id})"
    if event.version == head.version + 1:
        try:
            await events.put([replace(event, position=None)], partition)
        except Duplicate as clash:
            return f"{where}: {clash}"
        return ""
    return (
        f"{where} was put, and waits in the log, but version {head.version + 1}, put with it or "
        "before it, is in no topic: both are lost; send their commands again"
    )


async def _pages(events: AsyncIterator[EventRecord]) -> AsyncIterator[list[EventRecord]]:
    page = list[EventRecord]()
    async for event in events:
        page.append(event)
        if len(page) == PAGE_EVENTS:
            yield page
            page = []
    if page:
        yield page
