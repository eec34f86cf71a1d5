"""Chooses aggregates that are spread evenly over a domain."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from eventfleet.stores.contracts import EventReader

PAGE_IDS = 1000


class Sample(NamedTuple):
    """The ids of the chosen aggregates, and how many aggregates there are."""

    aggregate_ids: list[str]
    total: int


async def aggregate_pages(events: EventReader, limit: int) -> AsyncIterator[list[str]]:
    """Yield the ids of all aggregates, in order, up to `limit` at a time."""
    cursor, full = "", True
    while full:
        page = await events.aggregates(cursor, limit)
        cursor, full = page.cursor, len(page.items) == limit
        if page.items:
            yield page.items


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
