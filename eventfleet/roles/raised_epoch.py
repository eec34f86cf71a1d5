"""Raises a domain's epoch, where the log is another one than append took its events from."""

from collections.abc import Mapping
from dataclasses import replace as with_changes

from eventfleet.roles.repair import RepairContext
from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.codec import decode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import Position

COMPARED_OFFSETS = 200
"""So many of the oldest offsets that the log keeps, and of the last that append took."""


async def raise_epoch(context: RepairContext) -> int:
    """Raise the epoch, and return the new one.

    Misconfigured: the log still has what append took from it, so its offsets do not start again; or
    a group has members.
    """
    # Where the topic was made anew, the group's offsets went with the old one: nothing to wait for.
    committed = await with_changes(context, steady=0.0).take_over()
    marks = await context.reader.watermarks(context.topics.events)
    noted = await context.stores.events.registry.next_offsets()
    if fault := await _find_fault(context, marks, noted, committed):
        raise Misconfigured(f"{context.domain.name}: {fault}. Nothing was changed")
    epoch = await context.stores.events.registry.raise_epoch()
    await context.copy_registry()
    return epoch


async def _find_fault(
    context: RepairContext,
    marks: Mapping[int, Watermarks],
    noted: Mapping[int, int],
    committed: Mapping[int, int],
) -> str:
    """Say why there is no need of a new epoch; else nothing."""
    name, topic = context.domain.name, context.topics.events
    count = await context.stores.events.registry.partition_count()
    others = await context.stores.events.registry.partition_counts() - {len(marks)}
    if others and context.domain.views:
        known = ", ".join(map(str, sorted(others)))
        return (
            f"{topic} has {len(marks)} partitions, but the stored events were divided by {known}, "
            "and views are built partition by partition: the number of a domain with views can't "
            f"be changed. Recreate the domain's topics with {known}"
        )
    if noted.keys() - marks.keys() or count not in (None, len(marks)):
        return ""
    for partition, offset in noted.items():
        if not await _is_kept(context, partition, offset, marks[partition]):
            return ""
    there = ", ".join(f"partition {p} to offset {o}" for p, o in sorted(noted.items()) if o)
    if there:
        repair = "restore" if context.domain.synchronous else "rewind"
        return (
            f"{topic} still has what append took from it ({there}), so it was not made anew, and "
            "in a new epoch append would not go on. Where append refuses its offset all the same, "
            f"its message names the repair; where the group has lost it: eventfleet {repair} {name}"
        )
    taken = {p: o for p, o in committed.items() if p in marks and 0 < o <= marks[p].end}
    if taken:
        there = ", ".join(f"partition {p} to offset {o}" for p, o in sorted(taken.items()))
        return (
            f"the consumer group has taken {topic} ({there}), and the log has that, but this store "
            "notes nothing of it in its epoch: it is another store than the group filled, or the "
            f"epoch was raised before. Where it is the right one: eventfleet restore {name}"
        )
    return ""


async def _is_kept(context: RepairContext, partition: int, noted: int, marks: Watermarks) -> bool:
    """Return whether the log has the records from which append took events of this epoch."""
    if marks.end < noted:
        return False
    last = max(marks.oldest, noted - COMPARED_OFFSETS)
    first = min(marks.oldest + COMPARED_OFFSETS, noted)
    for start, end in ((marks.oldest, first), (last, noted)):
        if start < end and not await _has_events(context, partition, start, end):
            return False
    return True


async def _has_events(context: RepairContext, partition: int, start: int, end: int) -> bool:
    """Compare the records at some offsets with the events that the store has placed there."""
    epoch = await context.stores.events.registry.epoch()
    positions = [Position(epoch, partition, offset) for offset in range(start, end)]
    placed: dict[int, set[str]] = {}
    for event in await context.stores.events.placed_at(positions):
        placed.setdefault(Position.parse(event.position or "").offset, set()).add(event.id)
    async for record in context.reader.read(context.topics.events, partition, start, end):
        try:
            found = decode(record.value).id
        except InvalidRecord:
            found = ""
        if found not in placed.pop(record.offset, {found}):
            return False
    return not placed
