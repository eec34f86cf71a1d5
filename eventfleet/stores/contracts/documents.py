"""Contract of the document store: documents beside the events that keep their changes."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from eventfleet.stores.contracts.dead_letters import DeadLetterStore
from eventfleet.stores.contracts.outbox import Outbox
from eventfleet.topics.event import EventRecord


class StoredDocument(NamedTuple):
    """A document as it is stored; without `fields` it is the tombstone of a deleted one."""

    id: Any
    version: int
    fields: dict[str, Any] | None


class DocumentTail(NamedTuple):
    """A document as it is stored (None: it is not), and its events above that version, in order.

    `is_adopted`: there are no events at all, so the document was there before.
    """

    document: StoredDocument | None
    events: list[EventRecord]
    is_adopted: bool


class FeedItem(NamedTuple):
    """An event, and the cursor from which a feed goes on behind it."""

    event: EventRecord
    cursor: str


class DocumentStore(Protocol):
    """The documents of one collection, and the events of their changes.

    The insertion of an event is what commits a change. The document follows: it is a projection of
    its events, and the outbox has those that may not have reached it, or its subscribers.
    """

    @property
    def outbox(self) -> Outbox:
        """The events that are not published, or not projected, yet."""

    @property
    def letters(self) -> DeadLetterStore:
        """The documents whose events can't be published or projected."""

    async def prepare(self) -> None:
        """Create and verify the indexes, as EventStore does, those of outbox and letters too.

        Misconfigured also where the documents have a unique index of another's: no document may be
        kept out whose event is stored; and where the events are those of another collection.
        """

    async def load(
        self, id: Any, aggregate_id: str, *, may_be_absent: bool = False
    ) -> DocumentTail:
        """Read a document, and then its events above its version.

        With `may_be_absent` one that is not stored has no events here, though it may have some.
        """

    async def head(self, aggregate_id: str, after: int = 0) -> int:
        """Return the version of a document's newest event above a version, 0 without one; one
        indexed read."""

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        """Return the highest version whose event is not later than a moment; 0 without one."""

    async def lost(self) -> list[str]:
        """Return the ids of all documents that have events, where not one document is stored: the
        collection was dropped. Else none."""

    async def is_run_by_fleet(self) -> bool:
        """Return whether a fleet has taken the events on: its topics limit their size."""

    async def insert(self, event: EventRecord, *, to_publish: bool) -> None:
        """Store the event of a change, durably, as pending. Duplicate: its version is taken."""

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        """Store different documents, each unless a later version is there; one write."""

    async def versions(self, ids: Collection[Any]) -> dict[Any, int]:
        """Return the stored version of each of these documents, tombstones too; one query."""

    async def find(
        self,
        where: Mapping[str, Any],
        sort: Sequence[tuple[str, int]],
        skip: int,
        limit: int,
    ) -> list[StoredDocument]:
        """Return the documents that match, without tombstones."""

    def changes(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        """Stream a document's events above a version, in version order."""

    def feed(self, cursor: str | None) -> AbstractAsyncContextManager[AsyncIterator[FeedItem]]:
        """Open a stream of all documents' events, which never ends: from a cursor, or those that
        are stored from when it is open.

        Each document's events come in version order. InvalidCursor: the server can't go on there.
        """
