"""Opens storages: one typed collection, or the documents of many collections."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from eventfleet.buses.bus import EventBus
from eventfleet.documents.diff import Diff
from eventfleet.documents.errors import OpeningFailed
from eventfleet.documents.event_sourced import (
    Edit,
    EventSourcedStorage,
    StorageOptions,
)
from eventfleet.documents.mapper import EventMapper
from eventfleet.model.errors import DeclarationError
from eventfleet.stores.contracts.documents import DocumentStore
from eventfleet.stores.memory.document_store import MemoryClient
from eventfleet.stores.mongo.document_stores import open_document_store
from eventfleet.stores.sqlite import document_store as sqlite
from eventfleet.stores.startable import Startable
from eventfleet.topics.errors import EventfleetError

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS = 10.0


@contextmanager
def _named(part: str) -> Iterator[None]:
    try:
        yield
    except EventfleetError as error:
        raise OpeningFailed(part, error) from error


@asynccontextmanager
async def open_storage(
    client: Any,
    database: str,
    collection: str,
    kind: type[T],
    *,
    event_collection: str | None = None,
    id_field: str = "id",
    version_field: str = "version",
    cache_seconds: float = 600.0,
    cache_documents: int = 10_000,
    watch: bool = True,
    full_document: bool = False,
    bus: EventBus | None = None,
    mapper: EventMapper | None = None,
    partitions: int = 1,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    logger: logging.Logger | None = None,
) -> AsyncIterator[EventSourcedStorage[T]]:
    """Open the storage of one collection, and close it at the end of the block.

    `client` is MongoDB's URL, or a client of PyMongo's or Motor's, which stays open, or a file as
    `sqlite:///file`, which this process alone has open, or in tests a MemoryClient. Events lie in
    `event_collection` (by default `<collection>.events`). The cache keeps `cache_documents` for
    `cache_seconds`; with `watch` other processes' changes make it invalid at once, and watchers
    need not poll. `full_document` is the default of `watch_all`. A started `bus` gets what `mapper`
    makes of each change; every process that opens the collection must give one, or none does.
    `partitions` is the number of the domain's topics where a fleet relays the events. `timeout` in
    seconds bounds each call by a URL; a client has its own. OpeningFailed names the part, and says
    why.
    """
    options = StorageOptions(
        id_field, version_field, cache_seconds, cache_documents, watch, full_document
    )
    async with AsyncExitStack() as stack:
        with _named(f"the store of {collection}"):
            store: DocumentStore
            if isinstance(client, MemoryClient):
                store = client.collection(database, collection, version_field)
            else:
                is_file = isinstance(client, str) and client.startswith("sqlite:")
                open_store = sqlite.open_document_store if is_file else open_document_store
                store = await stack.enter_async_context(
                    open_store(
                        client,
                        database,
                        collection,
                        event_collection or f"{collection}.events",
                        version_field=version_field,
                        partitions=partitions,
                        timeout=timeout,
                    )
                )
        with _named(f"the storage of {collection}"):
            storage = EventSourcedStorage(
                collection, kind, store, bus=bus, mapper=mapper, options=options, logger=logger
            )
            await stack.enter_async_context(storage)
        yield storage


class Documents(Startable):
    """The documents of several collections of one database.

        async with Documents(client, "mydb", {"users": User}, bus=bus) as documents:
            await documents.update("users", "user123", change)
            users = documents["users"]

    `options` are those of `open_storage`. Collections open together, and close with the block.
    """

    def __init__(
        self, client: Any, database: str, collections: Mapping[str, type[Any]], **options: Any
    ) -> None:
        self._client, self._database = client, database
        self._collections, self._options = dict(collections), options
        self._storages: dict[str, EventSourcedStorage[Any]] = {}
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open all collections; what a failure has opened is closed again."""
        storages: dict[str, EventSourcedStorage[Any]] = {}
        async with AsyncExitStack() as stack:
            for name, kind in self._collections.items():
                opening = open_storage(self._client, self._database, name, kind, **self._options)
                storages[name] = await stack.enter_async_context(opening)
            self._storages, self._stack = storages, stack.pop_all()

    async def stop(self) -> None:
        """Close all collections."""
        self._storages.clear()
        await self._stack.aclose()

    def __getitem__(self, collection: str) -> EventSourcedStorage[Any]:
        """Return the storage of a collection. DeclarationError: it is not declared, or not open."""
        if collection in self._collections and collection not in self._storages:
            raise DeclarationError(f"{collection!r} is not open: use it in the block of Documents")
        try:
            return self._storages[collection]
        except KeyError:
            known = ", ".join(sorted(self._collections)) or "none"
            raise DeclarationError(
                f"{collection!r} is no declared collection; declared: {known}"
            ) from None

    async def update(
        self, collection: str, id: Any, edit: Edit[Any], client_id: str | None = None
    ) -> tuple[Any, Diff]:
        """Edit a document, or create it: `edit` gets None where there is none, and may return one.

        Returns the document (None: there is none still) and what has changed.
        """
        return await self[collection].edit_or_create(id, edit, client_id)
