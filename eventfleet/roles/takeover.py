"""The take-over of a partition, the same for every role."""

from eventfleet.stores.contracts import ParkedAggregates, PartitionWriter
from eventfleet.stores.errors import Misconfigured


async def take_over(
    writer: PartitionWriter, parked: ParkedAggregates, partition: int
) -> int | None:
    """Fence earlier owners; return the committed offset (None: there is none).

    The order matters: were the offset read before the fence, the old owner could still commit past
    it. Misconfigured when aggregates of the partition are parked.
    """
    offset = await writer.open()
    aggregates = await parked.load(partition)
    if aggregates:
        raise Misconfigured(
            f"partition {partition}: {len(aggregates)} aggregates are parked, among them "
            f"{min(aggregates)!r}; this version does not support parked aggregates"
        )
    return offset
