"""The take-over of a partition, the same for every role."""

from eventfleet.roles.role import UnusableOffset
from eventfleet.stores.contracts import ParkedAggregates, PartitionWriter
from eventfleet.stores.errors import Misconfigured

SET_OFFSET_HINT = (
    "set the offset, with the workers of the role stopped: "
    "eventfleet topics set-offset DOMAIN ROLE earliest (or latest)"
)


async def take_over(
    writer: PartitionWriter, parked: ParkedAggregates, partition: int
) -> int | None:
    """Fence earlier owners; return the committed offset (None: there is none).

    The order matters: were the offset read before the fence, the old owner could still commit past
    it. UnusableOffset when the log does not have the offset; Misconfigured when aggregates of the
    partition are parked.
    """
    offset = await writer.open()
    if offset is not None:
        await _check_offset(writer, offset)
    aggregates = await parked.load(partition)
    if aggregates:
        raise Misconfigured(
            f"partition {partition}: {len(aggregates)} aggregates are parked, among them "
            f"{min(aggregates)!r}; this version does not support parked aggregates"
        )
    return offset


async def _check_offset(writer: PartitionWriter, offset: int) -> None:
    oldest, end = await writer.watermarks()
    if offset < oldest:
        raise UnusableOffset(
            f"the group's offset is {offset}, but the log keeps its records from {oldest} to {end} "
            f"only: those before {oldest} were removed before this role had read them. Keep logs "
            f"longer, restore what is lost, and then {SET_OFFSET_HINT}"
        )
    if offset > end:
        raise UnusableOffset(
            f"the group's offset is {offset}, but the log holds records from {oldest} to {end}: it "
            "was truncated, made anew or restored from a copy. What follows on its end would be "
            f"passed over. Find out what is lost, and then {SET_OFFSET_HINT}"
        )
