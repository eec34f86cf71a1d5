"""DocumentWriter: decides on the present document and stores the change, until no one is before."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventfleet.documents.change import ADOPTED_DOC, ChangeData, to_change
from eventfleet.documents.diff import ChangeOperation, Diff, MadeDiff, are_same, make_diff
from eventfleet.documents.document_cache import CachedDocument, DocumentCache, DocumentForms
from eventfleet.documents.document_codec import EncodedDocument
from eventfleet.documents.document_folder import DocumentFolder
from eventfleet.documents.document_reader import READ_NOW, DocumentReader
from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.mapper import EventMapper
from eventfleet.documents.projector import Projector
from eventfleet.documents.size_limits import SAFE_JSON_BYTES, check_stored_size, refuse_size
from eventfleet.model.value_copy import copy_value
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from eventfleet.stores.errors import Duplicate, EditConflict, ServerUnavailable
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.retry import CONFLICT, REPEATED_WRITE
from eventfleet.topics.codec import encode, parse_encoded, to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, EventRecord

T = TypeVar("T")

Decide = Callable[[CachedDocument], Awaitable[EncodedDocument | CachedDocument | None]]
"""Returns what the present document becomes; itself, or None of an absent one: nothing."""


class PreparedChange(NamedTuple):
    """A change that may be stored: its diff, its event and the event's bytes as JSON, and the
    document and its forms after it."""

    diff: Diff
    event: EventRecord
    event_bytes: int
    after: StoredDocument
    forms: DocumentForms | None


class DocumentWriter(Generic[T]):
    """Stores the changes of one collection's documents: the insertion of an event commits one."""

    def __init__(
        self,
        collection: str,
        store: DocumentStore,
        reader: DocumentReader[T],
        folder: DocumentFolder[T],
        projector: Projector,
        cache: DocumentCache,
        mapper: EventMapper,
        clock: Clock,
        logger: logging.Logger,
        *,
        to_publish: bool,
        nudge: Callable[[], None],
    ) -> None:
        """`nudge` is called after each change, if it is to be published."""
        self._collection, self._store, self._to_publish = collection, store, to_publish
        self._reader, self._folder, self._cache, self._nudge = reader, folder, cache, nudge
        self._projector = projector
        self._types = {each: mapper.event_type(collection, each) for each in ChangeOperation}
        self._clock, self._ids, self._logger = clock, Uuid7Generator(), logger

    async def change(
        self, id: Any, decide: Decide, client_id: str | None
    ) -> tuple[CachedDocument, Diff]:
        """Store what is decided on the present document; return the document after it.

        A decision that stores nothing, an error among them, is taken on the latest version: only a
        write proves that the cached one was. EditConflict: another writer came first each time.
        """
        change = None
        for attempt in range(1, CONFLICT.attempts + 1):
            is_first = attempt == 1
            cached = self._cache.get(str(id)) if is_first else None
            present = cached or await self._reader.load(id, may_be_absent=is_first)
            try:
                change = self._prepare(present, await decide(present), client_id)
                if change and change.event_bytes > MAX_EVENT_BYTES:
                    await self._check_topics(change)
            except Exception:
                if await self._reader.is_latest(present):
                    raise
            else:
                if change and await self._commit(change):
                    stored = CachedDocument(change.after, False, READ_NOW, change.forms)
                    return stored, copy_value(change.diff)
                if change:
                    await asyncio.sleep(CONFLICT.pause(attempt))
                elif await self._reader.is_latest(present):
                    return present, Diff(version=present.document.version)
        raise await self._conflict(id, present.document.version, change)

    def _prepare(
        self,
        present: CachedDocument,
        decided: EncodedDocument | CachedDocument | None,
        client_id: str | None,
    ) -> PreparedChange | None:
        """Return the change to what was decided; None: nothing changes."""
        before, forms = present.document, None
        is_there = before.fields is not None
        if isinstance(decided, CachedDocument) or (decided is None and not is_there):
            return None
        was = None
        if is_there and decided:
            was = present.forms or self._folder.forms(present)
        if was and decided and are_same(was.known, decided.json):
            return None
        fields = decided and decided.fields
        if decided and was and was.known is not was.history:
            fields = self._folder.merge(before, decided.fields)
        elif decided:
            forms = DocumentForms(decided.value, decided.json, decided.json)
        after = StoredDocument(before.id, before.version + 1, fields)
        if decided and (forms is None or decided.json_bytes > SAFE_JSON_BYTES):
            check_stored_size(self._collection, before.id, "the document", fields or {})
        history = forms.history if forms else self._folder.history(after)
        made = make_diff(was and was.history, history, after.version)
        if not (made.diff.has_changes or made.diff.is_deleted):
            return None
        return PreparedChange(made.diff, *self._event(present, made, client_id), after, forms)

    def _event(
        self, present: CachedDocument, made: MadeDiff, client_id: str | None
    ) -> tuple[EventRecord, int]:
        """Return the event of a change, and its bytes. InvalidDocument: no store can keep it."""
        text = str(present.document.id)
        adoption = self._adoption(present.document) if present.is_adopted else {}
        data = ChangeData(operation=made.operation, diff=made.stored, metadata=adoption)
        event = EventRecord(
            id=self._ids.new(),
            type=self._types[made.operation],
            domain=self._collection,
            aggregate_id=text,
            time=self._clock.now(),
            data=msgspec.to_builtins(data),
            version=made.diff.version,
            actor=client_id,
        )
        value = encode(event)
        try:
            parse_encoded(value)
            msgspec.json.decode(value, type=EventRecord)
        except (InvalidRecord, msgspec.ValidationError) as error:
            found = error if isinstance(error, InvalidRecord) else to_invalid_record(error)
            raise InvalidDocument(found.field, found.reason) from None
        if len(value) > SAFE_JSON_BYTES:
            check_stored_size(self._collection, text, "the change", event.data)
        return event, len(value)

    def _adoption(self, document: StoredDocument) -> dict[str, Any]:
        where, version = f"{self._collection}/{document.id}", document.version
        self._logger.info("%s is adopted at version %d", where, version)
        history = self._folder.history(document)
        adopted = {"adopted_version": version}
        return adopted if history is None else adopted | {ADOPTED_DOC: history}

    async def _check_topics(self, change: PreparedChange) -> None:
        """InvalidDocument: the event is too large for the topics of a fleet that runs it."""
        if await self._store.is_run_by_fleet():
            what, id = "the change, for the topics of its fleet,", change.event.aggregate_id
            refuse_size(self._collection, id, what, change.event_bytes, MAX_EVENT_BYTES)

    async def _commit(self, change: PreparedChange) -> bool:
        """Store a change, again where the answer was lost, and have its document written.

        False: its version is taken.
        """
        event, text = change.event, change.event.aggregate_id
        try:
            await REPEATED_WRITE.retry(
                lambda: self._store.insert(event, to_publish=self._to_publish),
                lambda error: isinstance(error, ServerUnavailable),
            )
        except Duplicate:
            self._cache.drop(text)
            if not await self._is_stored(event):
                return False
        except BaseException:
            self._cache.drop(text)  # it may be stored
            raise
        self._cache.put(text, change.after, is_adopted=False, forms=change.forms)
        if self._to_publish:
            self._nudge()
        if not await self._projector.put(change.after, event.id):
            await self._reader.note_seen(text, event.version)
        return True

    async def _is_stored(self, event: EventRecord) -> bool:
        """Return whether this event, and not another, has its version. ServerUnavailable: no
        majority has it yet. It may be this one, so nothing else is tried in its place."""
        for attempt in range(1, CONFLICT.attempts + 1):
            async for each in self._store.changes(event.aggregate_id, event.version - 1, 1):
                return each.id == event.id
            await asyncio.sleep(CONFLICT.pause(attempt))
        where = f"{self._collection}/{event.aggregate_id} version {event.version}"
        raise ServerUnavailable(f"{where} is taken by a change that can't be read yet: try again")

    async def _conflict(
        self, id: Any, expected: int, change: PreparedChange | None
    ) -> EditConflict:
        diffs = [to_change(each).diff async for each in self._store.changes(str(id), expected)]
        if diffs:
            await self._reader.note_seen(str(id), diffs[-1].version)
        return EditConflict(
            self._collection,
            id,
            expected,
            diffs[-1].version if diffs else expected,
            change.diff if change else Diff(version=expected),
            tuple(diffs),
        )
