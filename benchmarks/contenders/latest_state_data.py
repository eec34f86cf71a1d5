"""Data of the latest-state scenario: accounts of several sizes in one store."""

from msgspec.structs import replace

from benchmarks.data import DatasetSize, make_events
from eventfleet.topics.event import EventRecord, Position

ACCOUNT_SIZES_EVENTS = (10, 1_000, 100_000)
APPENDED_EVENTS = 20
QUERIES = 200


def account_id(size: int) -> str:
    return f"account-of-{size}"


def make_history(name: str, size: int) -> list[EventRecord]:
    """Return an account's events: `size` stored at first, then those appended before each query."""
    (events,) = make_events(name, DatasetSize(size + (QUERIES + 1) * APPENDED_EVENTS, 1, 1))
    return [
        replace(
            event,
            id=f"{size}-{event.id}",
            aggregate_id=account_id(size),
            position=str(Position(0, ACCOUNT_SIZES_EVENTS.index(size), event.version - 1)),
        )
        for event in events
    ]
