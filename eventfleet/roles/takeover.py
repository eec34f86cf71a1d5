"""How every role becomes the owner of a partition."""

from eventfleet.stores.contracts import ParkedAggregates, PartitionWriter
from eventfleet.stores.errors import Misconfigured


async def take_over(
    writer: PartitionWriter, parked: ParkedAggregates, partition: int
) -> int | None:
    """Fence, read the committed offset (None: there is none), load the parked set.

    The order matters: read before the fence, and the old owner may still commit past it.
    """
    offset = await writer.open()
    held = await parked.load(partition)
    if held:
        raise Misconfigured(
            f"partition {partition}: {len(held)} aggregates are parked, among them "
            f"{min(held)!r}; this version can't work beside parked aggregates"
        )
    return offset
