"""Change: one stored change of a document, and the event that keeps it."""

from datetime import datetime
from typing import Any

import msgspec

from eventfleet.documents.diff import ChangeOperation, Diff
from eventfleet.documents.stored_diff import from_stored_diff
from eventfleet.model.value_copy import copy_value
from eventfleet.topics.event import EventRecord

CREATED_DOC, ADOPTED_DOC = "created_doc", "adopted_doc"


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
    """The payload of a change's event; what its diff's JSON Patch tells is not stored again."""

    operation: ChangeOperation
    diff: Diff
    metadata: dict[str, Any] = {}


def to_change(event: EventRecord) -> Change:
    """Return the change that an event keeps."""
    data = msgspec.convert(event.data, ChangeData)
    diff, metadata = from_stored_diff(data.diff), {**data.metadata}
    if data.operation is ChangeOperation.CREATE:
        metadata[CREATED_DOC] = copy_value(diff.merge_patch)
    return Change(
        id=event.id,
        document_id=event.aggregate_id,
        client_id=event.actor,
        operation=data.operation,
        version=event.version,
        timestamp=event.time,
        diff=diff,
        metadata=metadata,
    )
