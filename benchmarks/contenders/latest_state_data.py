"""Accounts of several sizes in one store, and what is appended to them while they are queried."""

from msgspec.structs import replace

from benchmarks.data import Amount, made
from eventfleet.topics.event import EventRecord, Position

SIZES = (10, 1_000, 100_000)
APPENDED = 20
QUERIES = 200


def account(size: int) -> str:
    return f"account-of-{size}"


def history(name: str, size: int) -> list[EventRecord]:
    """The events of one account: `size` to begin with, then those for the queries and one more."""
    (events,) = made(name, Amount(size + (QUERIES + 1) * APPENDED, 1, 1))
    return [
        replace(
            event,
            id=f"{size}-{event.id}",
            aggregate_id=account(size),
            position=str(Position(0, SIZES.index(size), event.version - 1)),
        )
        for event in events
    ]
