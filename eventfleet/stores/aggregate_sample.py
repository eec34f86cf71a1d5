"""Chooses aggregates that are spread evenly over a domain."""

from typing import NamedTuple

from eventfleet.stores.aggregate_batches import aggregate_pages
from eventfleet.stores.contracts import EventReader

PAGE_IDS = 1000


class Sample(NamedTuple):
    """The ids of the chosen aggregates, and how many aggregates there are."""

    aggregate_ids: list[str]
    total: int


async def sample_aggregates(events: EventReader, size: int) -> Sample:
    """Choose up to `size` aggregates by one pass over all ids, of which it holds few."""
    kept, total, step = list[str](), 0, 1
    async for page in aggregate_pages(events, PAGE_IDS):
        for aggregate_id in page:
            if total % step == 0:
                kept.append(aggregate_id)
                if len(kept) > 2 * size:
                    kept, step = kept[::2], 2 * step
            total += 1
    chosen = min(size, len(kept))
    return Sample([kept[n * len(kept) // chosen] for n in range(chosen)], total)
