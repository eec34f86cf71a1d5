"""EventSourcedStorage: a collection of typed documents whose every change is an event."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventfleet.buses.bus import EventBus
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.publisher import Publisher
from eventfleet.documents.change import Change, to_change
from eventfleet.documents.change_event import (
    check_stored_size,
    is_beyond_topics,
    make_change_event,
    refuse_size,
)
from eventfleet.documents.diff import Diff, make_diff
from eventfleet.documents.document_cache import CachedDocument, DocumentCache
from eventfleet.documents.document_codec import DocumentCodec, Fields
from eventfleet.documents.document_folder import DocumentFolder
from eventfleet.documents.document_reader import DocumentReader
from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.feed_reader import FeedReader
from eventfleet.documents.mapper import EventMapper, published_events
from eventfleet.documents.projector import Projector
from eventfleet.model.errors import DeclarationError
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from eventfleet.stores.errors import Duplicate, EditConflict, NotFound, ServerUnavailable
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.retry import CONFLICT, REPEATED_WRITE
from eventfleet.stores.startable import Startable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import MAX_EVENT_BYTES, DomainName, EventRecord

T = TypeVar("T")

Edit = Callable[[T], Awaitable[T | None] | T | None]
"""Changes the copy that it gets, or returns another document; it may run again on a conflict."""

Decide = Callable[[StoredDocument], Awaitable[Fields | None]]
"""Returns the fields that the present document is to have; its own: nothing is to be stored."""

OPEN_SECONDS = 1.0
STOP_SECONDS = 5.0
WATCH_POLL_SECONDS = 1.0


class StorageOptions(NamedTuple):
    """Options of a storage: keyword arguments of `open_storage`, where they are explained."""

    id_field: str = "id"
    version_field: str = "version"
    cache_seconds: float = 600.0
    cache_documents: int = 10_000
    watch: bool = True
    full_document: bool = False


class WatchedChange(NamedTuple, Generic[T]):
    """A change of a watched collection; `document` only where it was asked for.

    `cursor` is opaque: a watch that begins there goes on behind this change.
    """

    cursor: str
    change: Change
    document: T | None


class EventSourcedStorage(Startable, Generic[T]):
    """Creates, edits, deletes and reads the documents of one collection.

    The event of a change is what commits it; the document follows. All methods may raise
    ServerUnavailable. Use it as `async with`, or start and stop it.
    """

    def __init__(
        self,
        collection: str,
        kind: type[T],
        store: DocumentStore,
        *,
        bus: EventBus | None = None,
        mapper: EventMapper | None = None,
        options: StorageOptions | None = None,
        clock: Clock | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        _check_name(collection)
        self._collection, self._store, self._bus = collection, store, bus
        self._options = options = options or StorageOptions()
        self._logger = logger or logging.getLogger("eventfleet.documents")
        self._codec = DocumentCodec(kind, options.id_field, options.version_field)
        self._folder = DocumentFolder(self._codec)
        self._mapper = mapper or EventMapper()
        self._mapper.register_type(collection, self._codec.type_name)
        self._cache = DocumentCache(options.cache_documents, options.cache_seconds)
        self._clock, self._ids = clock or SystemClock(), Uuid7Generator()
        self._projector = Projector(collection, store, self._logger, settles=bus is None)
        self._reader = DocumentReader(
            store, self._codec, self._folder, self._cache, self._projector
        )
        self._publisher = Publisher(
            collection,
            store.outbox,
            store.letters,
            bus,
            self._published,
            repair=self._repair,
            clock=self._clock,
            logger=self._logger,
        )
        self._feed = FeedReader(collection, store, self._cache, self._publisher.nudge)

    async def start(self) -> None:
        """Prepare the collections, and begin to project, to publish and to watch."""
        await self._store.prepare()
        if self._options.watch:
            self._feed.start()
            await self._feed.wait_until_open(OPEN_SECONDS)
        self._projector.start()
        self._publisher.start()

    async def stop(self) -> None:
        """Publish and write what is not yet, within bounds, and end."""
        await self._feed.stop()
        await self._publisher.stop()
        await self._projector.stop(STOP_SECONDS)

    # Changes

    async def find_one_and_upsert(self, document: T, client_id: str | None = None) -> T:
        """Create a document and return it; or return the one that has its id, and store nothing."""
        id, fields = self._codec.encode_valid(document)

        async def create(present: StoredDocument) -> Fields | None:
            return fields if present.fields is None else present.fields

        stored, _ = await self._change(id, create, client_id)
        return self._decode(stored)

    async def find_one_and_update(
        self, id: Any, edit: Edit[T], client_id: str | None = None
    ) -> tuple[T, Diff]:
        """Edit a document; return it, and what has changed. Without a change nothing is stored.

        NotFound; EditConflict: other writers came first at each attempt. What `edit` raises passes
        through, and nothing is stored.
        """

        async def edited(present: StoredDocument) -> Fields | None:
            self._check_present(present, id)
            return await self._edited(present, edit)

        stored, diff = await self._change(id, edited, client_id)
        return self._decode(stored), diff

    async def edit_or_create(
        self, id: Any, edit: Edit[T | None], client_id: str | None = None
    ) -> tuple[T | None, Diff]:
        """Edit a document, or create it: `edit` gets None where there is none, and may return one.

        Otherwise as `find_one_and_update`.
        """

        async def edited(present: StoredDocument) -> Fields | None:
            return await self._edited(present, edit)

        stored, diff = await self._change(id, edited, client_id)
        return None if stored.fields is None else self._decode(stored), diff

    async def delete_one(self, id: Any, client_id: str | None = None) -> None:
        """Delete a document. NotFound; EditConflict as `find_one_and_update`."""

        async def deleted(present: StoredDocument) -> None:
            self._check_present(present, id)

        await self._change(id, deleted, client_id)

    # Reads

    async def get(self, id: Any) -> T | None:
        """Return a document, as its events have it; None: there is none, or it was deleted."""
        is_followed = self._feed.is_open or not self._options.watch
        document = (await (self._current(id) if is_followed else self._load(id))).document
        return None if document.fields is None else self._decode(document)

    async def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        skip: int = 0,
        limit: int = 100,
        at_least: Mapping[Any, int] | None = None,
    ) -> list[T]:
        """Return the documents that match a filter of MongoDB's.

        Changes of this process are there; those of others come a moment later. `at_least` names
        documents, and the versions that they must have reached. None is older than this process
        has seen it.
        """
        await self._repair({str(id): version for id, version in (at_least or {}).items()})
        found = await self._store.find(where or {}, sort, skip, limit)
        for document in found:
            self._cache.note_version(str(document.id), document.version)
        return [self._decode(document) for document in found]

    async def get_missing_events(
        self, id: Any, after_version: int = 0, limit: int | None = None
    ) -> list[Change]:
        """Return a document's changes above a version, in order, deletions among them."""
        events = self._store.changes(str(id), after_version, limit)
        changes = [to_change(event) async for event in events]
        if changes:
            await self._reader.note_seen(str(id), changes[-1].version)
        return changes

    async def watch(self, id: Any, after_version: int = 0) -> AsyncIterator[Change]:
        """Stream a document's changes above a version, for ever."""
        while True:
            seen = self._feed.version(str(id))
            for change in await self.get_missing_events(id, after_version):
                yield change
                after_version = change.version
            await self._feed.wait(str(id), seen, WATCH_POLL_SECONDS)

    async def watch_all(
        self, cursor: str | None = None, *, full_document: bool | None = None
    ) -> AsyncIterator[WatchedChange[T]]:
        """Stream the changes of all documents, from a cursor or from now on, for ever.

        With `full_document` each comes with the document as it is when the change is delivered.
        InvalidCursor: the server can't go on there.
        """
        full = self._options.full_document if full_document is None else full_document
        async with aclosing(self._feed.follow(cursor)) as items:
            async for item in items:
                id = self._codec.parse_id(item.event.aggregate_id)
                await self._reader.note_seen(item.event.aggregate_id, item.event.version)
                document = await self.get(id) if full else None
                yield WatchedChange(item.cursor, to_change(item.event), document)

    # One change

    async def _change(
        self, id: Any, decide: Decide, client_id: str | None
    ) -> tuple[StoredDocument, Diff]:
        """Store what is decided on the present document; return the document after it.

        A decision that stores nothing, an error among them, is taken on the latest version: only a
        write proves that the cached one was.
        """
        for attempt in range(CONFLICT.attempts):
            present = await (self._load(id) if attempt else self._current(id))
            before = present.document
            try:
                merged = self._merged(before, await decide(before))
                diff = self._diff(before, merged)
                event = self._event(present, diff, client_id) if diff.has_changes else None
                if event:
                    await self._check_sizes(event, merged)
            except Exception:
                if await self._reader.is_latest(present):
                    raise
                event = None
            else:
                if event is None and await self._reader.is_latest(present):
                    return before, Diff(version=before.version)
            if event and (stored := await self._store_change(present, merged, event, attempt)):
                return stored, diff
        raise await self._conflict(id, present, merged)

    def _merged(self, before: StoredDocument, fields: Fields | None) -> Fields | None:
        """Return the fields to be stored: those of before where nothing has changed."""
        if fields is None or fields is before.fields:
            return fields
        merged = self._folder.merge(before, fields)
        return before.fields if merged is None else merged

    def _check_present(self, document: StoredDocument, id: Any) -> None:
        if document.fields is None:
            raise NotFound(self._collection, id)

    async def _edited(self, document: StoredDocument, edit: Edit[Any]) -> Fields | None:
        """Return the fields that an edit makes; None: there was no document, and there is none."""
        copy = None if document.fields is None else self._decode(document)
        result: Any = edit(copy)
        if isawaitable(result):
            result = await result
        edited = copy if result is None else result
        if edited is None:
            return None
        id, fields = self._codec.encode_valid(edited)
        if str(id) != str(document.id):
            raise InvalidDocument(self._options.id_field, f"was {document.id}, and is now {id}")
        return fields

    async def _store_change(
        self, present: CachedDocument, fields: Fields | None, event: EventRecord, attempt: int
    ) -> StoredDocument | None:
        """Store a change, and return the document after it; None: another writer came first."""
        text = event.aggregate_id
        try:
            is_stored = await self._insert(event)
        except BaseException:
            self._cache.drop(text)  # it may be stored
            raise
        if not is_stored:
            self._cache.drop(text)
            await asyncio.sleep(CONFLICT.pause(attempt + 1))
            return None
        after = StoredDocument(present.document.id, event.version, fields)
        self._cache.note_version(text, after.version)
        await self._reader.project(after, event.key)
        self._cache.put(text, after, is_adopted=False)
        self._publisher.nudge()
        return after

    async def _insert(self, event: EventRecord) -> bool:
        """Store an event, again where the answer was lost; False: its version is taken."""
        for failures in range(1, REPEATED_WRITE.attempts + 1):
            try:
                await self._store.insert(event, to_publish=self._bus is not None)
                return True
            except Duplicate:
                return await self._is_stored(event)
            except ServerUnavailable:
                if failures == REPEATED_WRITE.attempts:
                    raise
                await asyncio.sleep(REPEATED_WRITE.pause(failures))
        raise AssertionError

    async def _is_stored(self, event: EventRecord) -> bool:
        found = self._store.changes(event.aggregate_id, event.version - 1, 1)
        return [each.id async for each in found] == [event.id]

    def _event(self, present: CachedDocument, diff: Diff, client_id: str | None) -> EventRecord:
        document = present.document
        metadata: dict[str, Any] = {}
        if present.is_adopted:
            metadata["adopted_version"] = document.version
            if document.fields is not None:
                metadata["adopted_doc"] = self._folder.history(document)
            self._logger.info(
                "%s/%s is adopted at version %d", self._collection, document.id, document.version
            )
        operation = diff.operation
        change = Change(
            id=self._ids.new(),
            document_id=str(document.id),
            client_id=client_id,
            operation=operation,
            version=diff.version,
            timestamp=self._clock.now(),
            diff=diff,
            metadata=metadata,
        )
        type = self._mapper.event_type(self._collection, operation)
        return make_change_event(change, self._collection, type)

    async def _check_sizes(self, event: EventRecord, fields: Fields | None) -> None:
        """InvalidDocument: the document, or its event, is too large."""
        name, id = self._collection, event.aggregate_id
        if fields is not None:
            check_stored_size(name, id, "the document", fields)
        if is_beyond_topics(event) and await self._store.is_run_by_fleet():
            size = len(encode(event))
            refuse_size(name, id, "the change, for the topics of its fleet,", size, MAX_EVENT_BYTES)

    def _published(self, event: EventRecord) -> list[DocumentEvent]:
        self._reader.note(event.aggregate_id, event.version)
        return published_events(self._mapper, self._collection, to_change(event))

    def _diff(self, before: StoredDocument, fields: Fields | None) -> Diff:
        if fields is before.fields:
            return Diff(version=before.version)
        after = StoredDocument(before.id, before.version + 1, fields)
        return make_diff(self._folder.history(before), self._folder.history(after), after.version)

    async def _conflict(
        self, id: Any, present: CachedDocument, fields: Fields | None
    ) -> EditConflict:
        expected = present.document.version
        others = await self.get_missing_events(id, expected)
        return EditConflict(
            self._collection,
            id,
            expected,
            others[-1].version if others else expected,
            self._diff(present.document, fields),
            tuple(change.diff for change in others),
        )

    # The present document

    def _decode(self, document: StoredDocument) -> T:
        id = self._codec.parse_id(str(document.id))
        return self._codec.decode(id, document.fields or {}, document.version)

    async def _current(self, id: Any) -> CachedDocument:
        return await self._reader.current(id)

    async def _load(self, id: Any) -> CachedDocument:
        return await self._reader.load(id)

    async def _repair(self, versions: Mapping[str, int]) -> None:
        await self._reader.repair(versions)


def _check_name(collection: str) -> None:
    try:
        msgspec.convert(collection, DomainName)
    except msgspec.ValidationError:
        raise DeclarationError(
            f"the collection's name {collection!r} must begin with a-z and go on with up to 99 of"
            " a-z, 0-9, _ and -: it is the name of its events' domain"
        ) from None
