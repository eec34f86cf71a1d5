"""DocumentFolder: makes a document of its stored form and the events above it."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from jsonpatch import JsonPatchException, JsonPointerException

from eventfleet.documents.change import ADOPTED_DOC, to_change
from eventfleet.documents.diff import Json, apply_diff, are_same
from eventfleet.documents.document_cache import CachedDocument, DocumentForms
from eventfleet.documents.document_codec import DocumentCodec, Fields
from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.field_merge import (
    keep_unchanged,
    merge_fields,
    with_stored_types,
)
from eventfleet.model.value_copy import copy_value
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.topics.event import EventRecord

T = TypeVar("T")


class DocumentFolder(Generic[T]):
    """Applies edits and events to documents.

    Fields that the type does not have stay as they are.
    """

    def __init__(self, codec: DocumentCodec[T]) -> None:
        self._codec = codec

    def read(self, document: StoredDocument) -> T:
        """Return a document that is there as its type reads it."""
        id = self._codec.parse_id(str(document.id))
        return self._codec.decode(id, document.fields or {}, document.version)

    def copy(self, present: CachedDocument) -> T:
        """Return a document that is there, which is the caller's own."""
        copied: T = copy_value((present.forms or self.forms(present)).value)
        return copied

    def forms(self, present: CachedDocument) -> DocumentForms:
        """Return the forms of a document that is there; they are made once."""
        if present.forms is None:
            value, history = self.read(present.document), self.history(present.document) or {}
            known = self._codec.to_json(self._codec.encode(value))
            known = history if are_same(known, history) else known
            present.forms = DocumentForms(value, known, history)
        return present.forms

    def merge(self, document: StoredDocument, edited: Fields) -> Fields:
        """Return an edited document's fields, with the stored ones that its type does not have."""
        stored = document.fields or {}
        known = self._codec.normalize(document.id, stored)
        merged: Fields = merge_fields(stored, known, edited)
        if merged == edited or self._reads_back(document.id, merged, edited):
            return merged
        # The type makes its fields of others, which would undo the edit.
        return edited if self._reads_back(document.id, edited, edited) else merged

    def history(self, document: StoredDocument) -> Json | None:
        """Return a document as its events hold it; None: there is none."""
        return None if document.fields is None else self._codec.to_history(document.fields)

    def fold(self, document: StoredDocument, events: Iterable[EventRecord]) -> StoredDocument:
        """Apply events in order; of an absent document that was adopted, the first one has it.

        InvalidDocument: one is missing, or does not fit.
        """
        before, after, version = document.fields or {}, self.history(document), document.version
        for event in events:
            if not version and event.version > 1:
                adopting = to_change(event)
                after, version = adopting.metadata.get(ADOPTED_DOC), adopting.floor
            if event.version != version + 1:
                raise InvalidDocument(
                    "version", f"event {event.version} of {document.id} follows {version}"
                )
            after, version = self._apply(document.id, after, event), event.version
            before = {} if after is None else before
        if version == document.version:
            return document
        fields = None if after is None else self._stored(document.id, before, after)
        return StoredDocument(document.id, version, fields)

    def fold_to(
        self, document: StoredDocument, events: Sequence[EventRecord], version: int
    ) -> StoredDocument | None:
        """Return an absent document as it was after a version; None: no event tells.

        `events` are its first ones, up to that version at least, where there are so many.
        """
        folded = [event for event in events if event.version <= version]
        if folded:
            return self.fold(document, folded) if folded[-1].version == version else None
        if not events or (adopting := to_change(events[0])).floor != version:
            return None
        fields = adopting.metadata.get(ADOPTED_DOC)
        stored = None if fields is None else self._stored(document.id, {}, fields)
        return StoredDocument(document.id, version, stored)

    def _apply(self, id: Any, before: Json | None, event: EventRecord) -> Json | None:
        try:
            return apply_diff(before, to_change(event).diff)
        except (JsonPatchException, JsonPointerException) as error:
            where = f"version {event.version} of {id}"
            raise InvalidDocument("json_patch", f"does not fit at {where}: {error}") from None

    def _stored(self, id: Any, before: Fields, after: Json) -> Fields:
        """Return JSON as it is stored: what is as it was before is as it was stored, the rest has
        the types of the document's type."""
        history = self._codec.to_history(before)
        unheld = {n: v for n, v in before.items() if n not in history and n not in after}
        kept = keep_unchanged(after, history, {name: before[name] for name in history})
        held: Fields = with_stored_types(kept, self._codec.from_json(id, after))
        return unheld | held

    def _reads_back(self, id: Any, fields: Fields, edited: Fields) -> bool:
        read = self._codec.normalize(id, fields)
        return are_same(self._codec.to_json(read), self._codec.to_json(edited))


def absent(id: Any) -> StoredDocument:
    """Return what stands for a document that was never stored."""
    return StoredDocument(id, 0, None)
