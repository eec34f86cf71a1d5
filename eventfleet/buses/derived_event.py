"""DerivedEvent: an event that a mapper makes of a stored one, and its id."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from eventfleet.buses.event import DocumentEvent
from eventfleet.topics.event import derived_id

EVENT_IDS = UUID("6f1f3a52-9d0a-5c57-9c55-6d7b0a1d3c11").bytes
"""The namespace of derived events' ids."""


class DerivedEvent(NamedTuple):
    """An event that a mapper derives; the mapper's caller adds id, version and time."""

    event_type: str
    aggregate_type: str
    data: dict[str, Any]


def to_published(
    derived: Sequence[DerivedEvent],
    default_type: str,
    *,
    stored_id: str,
    aggregate_id: str,
    version: int,
    timestamp: datetime,
) -> list[DocumentEvent]:
    """Give events their ids, so that what is published again has the same ones.

    The default event has the stored event's id; any other has UUIDv5 of that id, its type and its
    number among those of that type.
    """
    seen: dict[str, int] = {}
    events = []
    for each in derived:
        number = seen[each.event_type] = seen.get(each.event_type, -1) + 1
        is_default = each.event_type == default_type and number == 0
        own_id = derived_id(EVENT_IDS, f"{stored_id}\0{each.event_type}\0{number}")
        events.append(
            DocumentEvent(
                id=stored_id if is_default else own_id,
                event_type=each.event_type,
                aggregate_id=aggregate_id,
                aggregate_type=each.aggregate_type,
                version=version,
                timestamp=timestamp,
                data=each.data,
            )
        )
    return events
