"""Change: one stored change of a document, and the event that keeps it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from eventfleet.documents.storage.diff import Diff
from eventfleet.topics.event import EventRecord


class ChangeOperation(StrEnum):
    """The operation of a change: create, update or delete."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a document, as it was stored.

    `version` is the document's after the change, and the server's sequence for clients. `metadata`
    of a create has `created_doc`; that of the first change of an adopted document `adopted_doc` and
    `adopted_version`, the floor of its changes.
    """

    id: str
    document_id: str
    client_id: str | None
    operation: ChangeOperation
    version: int
    timestamp: datetime
    diff: Diff
    metadata: dict[str, Any] = {}

    @property
    def floor(self) -> int:
        """The version of the document before its first change; 0 unless it was adopted."""
        return int(self.metadata.get("adopted_version", 0))


class ChangeData(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a change's event."""

    operation: ChangeOperation
    diff: Diff
    metadata: dict[str, Any] = {}


def to_event(change: Change, domain: str, type: str) -> EventRecord:
    """Return the event that keeps a change."""
    data = ChangeData(operation=change.operation, diff=change.diff, metadata=change.metadata)
    return EventRecord(
        id=change.id,
        type=type,
        domain=domain,
        aggregate_id=change.document_id,
        time=change.timestamp,
        data=msgspec.to_builtins(data),
        version=change.version,
        actor=change.client_id,
    )


def to_change(event: EventRecord) -> Change:
    """Return the change that an event keeps."""
    data = msgspec.convert(event.data, ChangeData)
    return Change(
        id=event.id,
        document_id=event.aggregate_id,
        client_id=event.actor,
        operation=data.operation,
        version=event.version,
        timestamp=event.time,
        diff=data.diff,
        metadata=data.metadata,
    )
