"""Rewind: sets append's offsets back, and lets it take the records again in a new epoch.

An event that is found in the store has a position of an earlier epoch, and append does not emit it;
an event that is inserted gets one of this epoch, and is emitted, also when an owner that died has
inserted it.
"""

from collections.abc import Mapping

from eventfleet.roles.repair import RepairContext, nearest_in_log
from eventfleet.stores.contracts import OffsetRange, Watermarks
from eventfleet.stores.errors import Misconfigured


async def rewind(
    context: RepairContext, first: Mapping[int, int] | None = None
) -> list[OffsetRange]:
    """Set append's offsets back; returns the records that append takes again, by partition.

    To where the store says that it was filled (where the log does not have that, to its oldest
    record), or to `first`, by partition. Snapshots are removed, and views are built anew, as they
    may hold what the wrong store had. Misconfigured: the domain is synchronous, an offset is not in
    the log or ahead of the group's, or a group has members.
    """
    name, registry = context.domain.name, context.stores.events.registry
    if context.domain.synchronous:
        raise Misconfigured(
            f"{name} is synchronous: its events are put by commands, and can't be taken from the "
            f"log again; use: eventfleet restore {name}"
        )
    committed = await context.take_over()
    await _require_registry(context)
    marks = await context.reader.watermarks(context.topics.events)
    if first is None:
        noted = await registry.next_offsets()
        partitions = {*committed, *noted} & marks.keys()
        first = {p: nearest_in_log(noted.get(p, 0), marks[p]) for p in partitions}
    ranges = _ranges(context.topics.events, marks, committed, first)
    if ranges:
        await registry.rewind(ranges, context.clock.now())
        await context.copy_registry()
        await context.stores.snapshots.clear()
        await context.rebuild_views()
        await context.set_offsets({each.partition: each.first for each in ranges})
    return ranges


async def _require_registry(context: RepairContext) -> None:
    """Misconfigured: the registry is behind its events, so a new epoch may be one of theirs."""
    events, name = context.stores.events, context.domain.name
    epoch, newest = await events.registry.epoch(), await events.newest_epoch()
    if newest > epoch:
        raise Misconfigured(
            f"{name}: the store holds events of epoch {newest}, but its registry says epoch "
            f"{epoch}: recover it first: eventfleet restore {name}"
        )


def _ranges(
    topic: str,
    marks: Mapping[int, Watermarks],
    committed: Mapping[int, int],
    first: Mapping[int, int],
) -> list[OffsetRange]:
    """Return the ranges to take again; an empty one where the group has lost its offset, or where
    the log no longer keeps what it has not read."""
    ranges: list[OffsetRange] = []
    for partition, start in sorted(first.items()):
        if partition not in marks:
            raise Misconfigured(f"{topic} has no partition {partition}")
        oldest, last = marks[partition]
        end = committed.get(partition, start)
        if not oldest <= start <= last or (start > end and end >= oldest):
            raise Misconfigured(
                f"{topic}, partition {partition}: can't rewind to offset {start}; the log keeps "
                f"{oldest} to {last}, and the consumer group is at {end}"
            )
        if start != end or partition not in committed:
            ranges.append(OffsetRange(partition, start, max(start, end)))
    return ranges
