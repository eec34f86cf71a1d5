"""EventMapper: makes the published events of documents' changes; they are never stored."""

from typing import NamedTuple

import msgspec

from eventfleet.buses.derived_event import DerivedEvent, to_published
from eventfleet.buses.event import DocumentEvent
from eventfleet.documents.change import Change
from eventfleet.documents.diff import ChangeOperation, Diff


class EventTypes(NamedTuple):
    """The names of a collection's default events."""

    created: str
    updated: str
    deleted: str


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
            self.event_type(collection, diff.operation),
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


def published_events(mapper: EventMapper, collection: str, change: Change) -> list[DocumentEvent]:
    """Return what is published of a change."""
    return to_published(
        mapper.map_to_events(collection, change.document_id, change.diff),
        mapper.event_type(collection, change.operation),
        stored_id=change.id,
        aggregate_id=change.document_id,
        version=change.version,
        timestamp=change.timestamp,
    )
