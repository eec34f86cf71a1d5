"""Events for the suites, and payloads that are hard to keep."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.partitioner import partition_of

DOMAIN = "orders"
PARTITIONS = 4
KEPT = 3
TIME = datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC)


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


PAYLOADS: dict[str, dict[str, Any]] = {
    "empty": {},
    "int64": {"most": 2**63 - 1, "least": -(2**63), "wide": 2**40, "small": 1, "zero": 0},
    "numbers": {"float": 1.5, "whole": 3.0, "tiny": 5e-324, "negative zero": -0.0},
    "unicode": {"schlüssel": "한국어 😀 \u2028 \x00 ends", "ключ": "\ufeff"},
    "constants": {"none": None, "true": True, "false": False},
    "lists": {"list": [[], [1, [2.5, [None]]], {}, [{"a": []}]]},
    "deep": nested(58),
    "dots": {"a.b": 1, ".": {"..": 2}, "a..b.": [{"c.d": 3}], "": {"": 4}},
    "dollars": {"$set": {"$inc": 1}, "a": {"$b": {"$": 2}}, "$where": "1"},
    "references": {"ref": {"$ref": "c", "$id": 2**40, "$db": "d", "x": {"$ref": "e", "$id": 1}}},
    "names of ours": {"_id": 1, "unplaced": 2, "offset": None, "state": {"_id": {"_id": 3}}},
    "long": {"text": "x" * 900_000},
}


def event(
    aggregate_id: str = "a1", version: int = 1, position: Position | None = None, **fields: Any
) -> EventRecord:
    """An event whose id tells aggregate and version, unless it is given."""
    fields = {
        "id": f"{aggregate_id}-{version}",
        "type": "placed",
        "domain": DOMAIN,
        "time": TIME,
        "data": {"n": version},
    } | fields
    place = str(position) if position else None
    return EventRecord(aggregate_id=aggregate_id, version=version, position=place, **fields)


def key(aggregate_id: str, version: int) -> EventKey:
    """The key of `event(aggregate_id, version)`."""
    return EventKey(aggregate_id, f"{aggregate_id}-{version}")


def at(offset: int, partition: int = 0, epoch: int = 0) -> Position:
    return Position(epoch, partition, offset)


def stream(aggregate_id: str, count: int, start: int = 0, partition: int = 0) -> list[EventRecord]:
    """The versions 1..count, one offset each."""
    versions = range(1, count + 1)
    return [event(aggregate_id, v, at(start + v - 1, partition)) for v in versions]


def belonging(partition: int, count: int) -> list[str]:
    """Ids of aggregates that belong to a partition, in id order."""
    ids = (f"agg{number:05}" for number in range(PARTITIONS * count * 10))
    return [key for key in ids if partition_of(key, PARTITIONS) == partition][:count]


async def ids(events: AsyncIterator[EventRecord]) -> list[str]:
    return [found.id async for found in events]
