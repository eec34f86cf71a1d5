"""DocumentFolder: makes a document of its stored form and the events above it."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from jsonpatch import JsonPatchException

from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.storage.change import to_change
from eventfleet.documents.storage.diff import Json, apply_diff
from eventfleet.documents.storage.document_codec import DocumentCodec, Fields
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.topics.event import EventRecord

T = TypeVar("T")


class DocumentFolder(Generic[T]):
    """Applies events to documents. Fields that the type does not have stay as they are."""

    def __init__(self, codec: DocumentCodec[T]) -> None:
        self._codec = codec

    def normalize(self, document: StoredDocument) -> Fields:
        """Return the fields that the type has, defaults included, as they are stored."""
        known = self._codec.decode(document.id, document.fields or {}, document.version)
        return self._codec.encode(known)[1]

    def merge(self, document: StoredDocument, fields: Fields) -> Fields:
        """Return new fields, with those of the document that the type does not have."""
        if document.fields is None:
            return fields
        known = self.normalize(document).keys()
        return {n: v for n, v in document.fields.items() if n not in known} | fields

    def fold(self, document: StoredDocument, events: Iterable[EventRecord]) -> StoredDocument:
        """Apply events in order. InvalidDocument: one is missing, or does not fit."""
        for event in events:
            if event.version != document.version + 1:
                raise InvalidDocument(
                    "version", f"event {event.version} of {document.id} follows {document.version}"
                )
            fields = self._apply(document, event)
            document = StoredDocument(document.id, event.version, fields)
        return document

    def _apply(self, document: StoredDocument, event: EventRecord) -> Fields | None:
        before: Json | None = None
        if document.fields is not None:
            before = self._codec.to_json(self.normalize(document))
        try:
            after = apply_diff(before, to_change(event).diff)
        except JsonPatchException as error:
            where = f"version {event.version} of {document.id}"
            raise InvalidDocument("json_patch", f"does not fit at {where}: {error}") from None
        if after is None:
            return None
        return self.merge(document, self._codec.from_json(document.id, after))


def absent(id: Any) -> StoredDocument:
    """Return what stands for a document that was never stored."""
    return StoredDocument(id, 0, None)
