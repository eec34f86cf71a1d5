"""Records of events for tests of domains."""

from datetime import UTC, datetime
from typing import Any

from eventfleet import EventRecord


def record(kind: str, data: dict[str, Any], schema_version: int = 1) -> EventRecord:
    return EventRecord(
        id="id-1",
        type=kind,
        domain="orders",
        aggregate_id="order-1",
        time=datetime(2024, 1, 1, tzinfo=UTC),
        data=data,
        schema_version=schema_version,
    )
