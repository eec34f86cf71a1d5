"""Pages through aggregates, and divides them into batches whose events are few."""

from collections.abc import AsyncIterator, Mapping, Sequence

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import EventReader, Head, Snapshot, SnapshotStore
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord


async def aggregate_pages(events: EventReader, limit: int) -> AsyncIterator[list[str]]:
    """Yield the ids of all aggregates, in order, up to `limit` at a time."""
    cursor, full = "", True
    while full:
        page = await events.aggregates(cursor, limit)
        cursor, full = page.cursor, len(page.items) == limit
        if page.items:
            yield page.items


def batch_aggregates(
    aggregate_ids: Sequence[str], heads: Mapping[str, Head], limit: int
) -> list[list[str]]:
    """Divide aggregates into batches of up to `limit` events; a larger one is alone."""
    batches, room = list[list[str]](), 0
    for key in aggregate_ids:
        events = heads[key].version if key in heads else limit
        if not batches or events > room:
            batches.append([])
            room = limit
        batches[-1].append(key)
        room -= events
    return batches


async def find_snapshots(
    snapshots: SnapshotStore, newest: Snapshot | None, shape: StateShape
) -> list[Snapshot]:
    """Return the stored snapshots of an aggregate and shape, from `newest` down."""
    found, snapshot = list[Snapshot](), newest
    while snapshot is not None:
        found.append(snapshot)
        snapshot = await snapshots.at(snapshot.aggregate_id, snapshot.version - 1, shape)
    return found


async def read_together(
    events: EventReader, batch: Sequence[str], limit: int
) -> dict[str, list[EventRecord]] | None:
    """Read the events of a batch by aggregate; None where they are more than `limit`, or one can't
    be read: which one, reading alone shows. So is a batch of one read."""
    if len(batch) == 1:
        return None
    try:
        found = await events.read_all(batch, limit)
    except ServerUnavailable:
        raise
    except Exception:
        return None
    by_aggregate: dict[str, list[EventRecord]] = {key: [] for key in batch}
    for event in found or ():
        by_aggregate[event.aggregate_id].append(event)
    return None if found is None else by_aggregate
