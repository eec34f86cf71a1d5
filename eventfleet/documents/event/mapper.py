"""Mappers: they make the events for subscribers, which are published and never stored.

EventMapper makes them of documents' changes, AggregateEventMapper of aggregates' events.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from eventfleet.documents.event.event import DocumentEvent
from eventfleet.documents.storage.change import Change, ChangeOperation
from eventfleet.documents.storage.diff import Diff
from eventfleet.topics.event import EventRecord

EVENT_IDS = UUID("6f1f3a52-9d0a-5c57-9c55-6d7b0a1d3c11")
"""The namespace of derived events' ids."""


class EventTypes(NamedTuple):
    """The names of a collection's default events."""

    created: str
    updated: str
    deleted: str


class DerivedEvent(NamedTuple):
    """An event that a mapper derives; the mapper's caller adds id, version and time."""

    event_type: str
    aggregate_type: str
    data: dict[str, Any]


class EventMapper:
    """Maps each change to one default event: `UserCreated`, `UserUpdated` or `UserDeleted`.

    A subclass overrides `map_to_events` to derive others, and may add `default_event(...)` to them.
    """

    def __init__(self) -> None:
        self._types: dict[str, EventTypes] = {}
        self._aggregate_types: dict[str, str] = {}

    def register(self, collection: str, types: EventTypes) -> None:
        """Name the default events of a collection."""
        self._types[collection] = types

    def register_type(self, collection: str, aggregate_type: str) -> None:
        """Name the type of a collection's documents; the storage does so when it opens."""
        self._aggregate_types.setdefault(collection, aggregate_type)

    def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
        """Return the events of a change, in order; none are allowed too."""
        return [self.default_event(collection, id, diff)]

    def default_event(self, collection: str, id: str, diff: Diff) -> DerivedEvent:
        """Return the default event of a change, with `diff` and `merge_patch` as data."""
        return DerivedEvent(
            self.event_type(collection, _operation(diff)),
            self.aggregate_type(collection),
            {"diff": msgspec.to_builtins(diff), "merge_patch": diff.merge_patch},
        )

    def event_type(self, collection: str, operation: ChangeOperation) -> str:
        """Return the name of the default event of an operation."""
        kind = self.aggregate_type(collection)
        types = self._types.get(collection) or EventTypes(
            f"{kind}Created", f"{kind}Updated", f"{kind}Deleted"
        )
        return {
            ChangeOperation.CREATE: types.created,
            ChangeOperation.UPDATE: types.updated,
            ChangeOperation.DELETE: types.deleted,
        }[operation]

    def aggregate_type(self, collection: str) -> str:
        return self._aggregate_types.get(collection, collection)


class AggregateEventMapper:
    """Maps each stored event of an aggregate to one, with its type and its data as they are stored.

    A subclass overrides `map_to_events` to keep events private, to rename them or to derive others.
    """

    def map_to_events(self, aggregate_type: str, event: EventRecord) -> list[DerivedEvent]:
        """Return what subscribers get of a stored event, in order; nothing is allowed too."""
        return [self.default_event(aggregate_type, event)]

    def default_event(self, aggregate_type: str, event: EventRecord) -> DerivedEvent:
        """Return the default event: that of the stored one's own type."""
        return DerivedEvent(event.type, aggregate_type, event.data)


def published_events(mapper: EventMapper, collection: str, change: Change) -> list[DocumentEvent]:
    """Return what is published of a change."""
    return _published(
        mapper.map_to_events(collection, change.document_id, change.diff),
        mapper.event_type(collection, change.operation),
        stored_id=change.id,
        aggregate_id=change.document_id,
        version=change.version,
        timestamp=change.timestamp,
    )


def published_aggregate_events(
    mapper: AggregateEventMapper, aggregate_type: str, event: EventRecord
) -> list[DocumentEvent]:
    """Return what is published of a stored event of an aggregate."""
    return _published(
        mapper.map_to_events(aggregate_type, event),
        event.type,
        stored_id=event.id,
        aggregate_id=event.aggregate_id,
        version=event.version,
        timestamp=event.time,
    )


def _published(
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
        own_id = uuid5(EVENT_IDS, f"{stored_id}\0{each.event_type}\0{number}")
        events.append(
            DocumentEvent(
                id=stored_id if is_default else str(own_id),
                event_type=each.event_type,
                aggregate_id=aggregate_id,
                aggregate_type=each.aggregate_type,
                version=version,
                timestamp=timestamp,
                data=each.data,
            )
        )
    return events


def _operation(diff: Diff) -> ChangeOperation:
    if diff.is_deleted:
        return ChangeOperation.DELETE
    return ChangeOperation.CREATE if diff.is_new else ChangeOperation.UPDATE
