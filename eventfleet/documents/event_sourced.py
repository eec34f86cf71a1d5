"""EventSourcedStorage: a collection of typed documents whose every change is an event."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventfleet.buses.bus import EventBus
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.publisher import Publisher
from eventfleet.documents.change import Change, to_change
from eventfleet.documents.diff import Diff
from eventfleet.documents.document_cache import CachedDocument, DocumentCache
from eventfleet.documents.document_codec import DocumentCodec, EncodedDocument
from eventfleet.documents.document_folder import DocumentFolder
from eventfleet.documents.document_reader import DocumentReader
from eventfleet.documents.document_writer import DocumentWriter
from eventfleet.documents.feed_reader import FeedReader
from eventfleet.documents.mapper import EventMapper, published_events
from eventfleet.documents.projector import Projector
from eventfleet.model.errors import DeclarationError
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.documents import DocumentStore
from eventfleet.stores.errors import NotFound
from eventfleet.stores.startable import Startable
from eventfleet.topics.event import DomainName, EventRecord

T = TypeVar("T")

Edit = Callable[[T], Awaitable[T | None] | T | None]
"""Changes the copy that it gets, or returns another document; it may run again on a conflict."""

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
        self._clock = clock or SystemClock()
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
        self._writer = DocumentWriter(
            collection,
            store,
            self._reader,
            self._folder,
            self._projector,
            self._cache,
            self._mapper,
            self._clock,
            self._logger,
            to_publish=bus is not None,
            nudge=self._publisher.nudge,
        )

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
        encoded = self._codec.encode_valid(document, 1)

        async def create(present: CachedDocument) -> CachedDocument | EncodedDocument:
            if present.document.fields is not None:
                return present
            version = present.document.version + 1
            return encoded if version == 1 else self._codec.encode_valid(document, version)

        stored, _ = await self._writer.change(encoded.id, create, client_id)
        return self._folder.copy(stored)

    async def find_one_and_update(
        self, id: Any, edit: Edit[T], client_id: str | None = None
    ) -> tuple[T, Diff]:
        """Edit a document; return it, and what has changed. Without a change nothing is stored.

        NotFound; EditConflict: other writers came first at each attempt. What `edit` raises passes
        through, and nothing is stored.
        """
        stored, diff = await self._writer.change(id, partial(self._edited, id, edit), client_id)
        return self._folder.copy(stored), diff

    async def edit_or_create(
        self, id: Any, edit: Edit[T | None], client_id: str | None = None
    ) -> tuple[T | None, Diff]:
        """Edit a document, or create it: `edit` gets None where there is none, and may return one.

        Otherwise as `find_one_and_update`.
        """
        edited = partial(self._edited, id, edit, may_create=True)
        stored, diff = await self._writer.change(id, edited, client_id)
        return None if stored.document.fields is None else self._folder.copy(stored), diff

    async def delete_one(self, id: Any, client_id: str | None = None) -> None:
        """Delete a document. NotFound; EditConflict as `find_one_and_update`."""

        async def deleted(present: CachedDocument) -> None:
            if present.document.fields is None:
                raise NotFound(self._collection, id)

        await self._writer.change(id, deleted, client_id)

    # Reads

    async def get(self, id: Any) -> T | None:
        """Return a document, as its events have it; None: there is none, or it was deleted."""
        is_followed = self._feed.is_open or not self._options.watch
        present = await (self._reader.current(id) if is_followed else self._reader.load(id))
        return None if present.document.fields is None else self._folder.copy(present)

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
        if not found and await self._reader.recover():
            self._logger.warning("%s was dropped, and is written again", self._collection)
            found = await self._store.find(where or {}, sort, skip, limit)
        for document in found:
            self._cache.note_version(str(document.id), document.version)
        return [self._folder.read(document) for document in found]

    async def at(
        self, id: Any, *, version: int | None = None, time: datetime | None = None
    ) -> T | None:
        """Return a document as it was after a version, or at a time; None: there was none then.

        At a time holds the highest version whose change is not later.
        """
        if (version is None) == (time is None):
            raise TypeError("at() takes a version or a time")
        if time is not None:
            if time.tzinfo is None:
                raise ValueError(f"time={time!r} has no time zone")
            version = await self._store.version_at(str(id), time)
        document = await self._reader.at(id, version or 0)
        return None if document is None or document.fields is None else self._folder.read(document)

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
            seen = self._cache.version(str(id))
            for change in await self.get_missing_events(id, after_version):
                yield change
                after_version = change.version
            await self._cache.wait(str(id), seen, WATCH_POLL_SECONDS)

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

    # One document

    async def _edited(
        self, id: Any, edit: Edit[Any], present: CachedDocument, *, may_create: bool = False
    ) -> EncodedDocument | None:
        """Return the document that an edit makes; None: there was none, and there is none."""
        document = present.document
        if document.fields is None and not may_create:
            raise NotFound(self._collection, id)
        copy = None if document.fields is None else self._folder.copy(present)
        result: Any = edit(copy)
        if isawaitable(result):
            result = await result
        edited = copy if result is None else result
        if edited is None:
            return None
        return self._codec.encode_valid(edited, document.version + 1, document.id)

    def _published(self, event: EventRecord) -> list[DocumentEvent]:
        self._reader.note(event.aggregate_id, event.version)
        return published_events(self._mapper, self._collection, to_change(event))

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
