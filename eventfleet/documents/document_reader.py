"""DocumentReader: reads present documents, and is never behind what this process knows of them."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from eventfleet.documents.document_cache import CachedDocument, DocumentCache
from eventfleet.documents.document_codec import DocumentCodec
from eventfleet.documents.document_folder import DocumentFolder, absent
from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.projector import Projector
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument

T = TypeVar("T")

MAX_SEEN_DOCUMENTS = 10_000
READ_NOW, ASSUMED = 0.0, -1.0
"""The expiries of a document that comes from the store, not from the cache; and of one that is
taken for absent without a look at its events."""


class DocumentReader(Generic[T]):
    """Reads documents from the cache and the store, and keeps both up to what was seen.

    `seen` are versions that callers know of, and that the documents may not have reached.
    """

    def __init__(
        self,
        store: DocumentStore,
        codec: DocumentCodec[T],
        folder: DocumentFolder[T],
        cache: DocumentCache,
        projector: Projector,
    ) -> None:
        self._store, self._codec, self._folder = store, codec, folder
        self._cache, self._projector = cache, projector
        self._seen: dict[str, int] = {}

    async def current(self, id: Any) -> CachedDocument:
        """Return a document from the cache, which may be stale, or else from the store."""
        return self._cache.get(str(id)) or await self.load(id)

    async def load(self, id: Any, *, may_be_absent: bool = False) -> CachedDocument:
        """Read a document and what its events say beyond it, and have it written if it lags."""
        text, stored_id = str(id), self._codec.stored_id(id)
        moment = self._cache.moment
        tail = await self._store.load(stored_id, text, may_be_absent=may_be_absent)
        document = self._folder.fold(tail.document or absent(stored_id), tail.events)
        if tail.events and not await self._projector.put(document):
            await self.note_seen(text, document.version)
        if document.version:
            self._cache.put(text, document, tail.is_adopted, moment)
        is_assumed = may_be_absent and tail.document is None
        return CachedDocument(document, tail.is_adopted, ASSUMED if is_assumed else READ_NOW)

    async def at(self, id: Any, version: int) -> StoredDocument | None:
        """Return a document as it was after a version; None: it has no such version."""
        text, stored_id = str(id), self._codec.stored_id(id)
        events = [event async for event in self._store.changes(text, 0, max(version, 1))]
        if events:
            await self.note_seen(text, events[-1].version)
            return self._folder.fold_to(absent(stored_id), events, version)
        present = (await self.load(id)).document
        return present if present.version == version else None

    async def recover(self) -> bool:
        """Write all documents again, where the collection was dropped; False: it was not."""
        lost = await self._store.lost()
        for text in lost:
            await self._write(text, is_named=False)
        if lost:
            await self._projector.flush()
        return bool(lost)

    async def is_latest(self, present: CachedDocument) -> bool:
        """Return whether a document is the latest; a cached one is compared with the store."""
        if present.expires == READ_NOW:
            return True
        text = str(present.document.id)
        newer = await self._store.head(text, present.document.version)
        if not newer:
            return True
        self._cache.drop(text)
        self._cache.note_version(text, newer)
        return False

    def note(self, text: str, version: int) -> None:
        """Note a version that a caller has seen: no later read is behind it."""
        self._cache.note_version(text, version)
        if version > self._seen.get(text, 0):
            self._seen[text] = version

    async def note_seen(self, text: str, version: int) -> None:
        """Note a seen version; where many are noted, have their documents written."""
        self.note(text, version)
        if len(self._seen) > MAX_SEEN_DOCUMENTS:
            await self.repair({})

    async def repair(self, versions: Mapping[str, int]) -> None:
        """Have documents written up to these versions, and those that were seen, at least."""
        await self._projector.flush()
        wanted = {**self._seen}
        for text, version in versions.items():
            wanted[text] = max(version, wanted.get(text, 0))
        ids = {text: self._codec.stored_id(self._codec.parse_id(text)) for text in wanted}
        stored = await self._store.versions(ids.values()) if ids else {}
        late = [text for text, id in ids.items() if stored.get(id, 0) < wanted[text]]
        for text in late:
            await self._write(text, is_named=text in versions)
        if late:
            await self._projector.flush()
        for text in late:
            if (refusal := self._projector.take_refusal(text)) and text in versions:
                raise refusal
        for text, version in wanted.items():
            if self._seen.get(text, version + 1) <= version:
                del self._seen[text]

    async def _write(self, text: str, *, is_named: bool) -> None:
        """Have a document written; one that does not fit the type is an error only where it is
        named, so that it keeps nothing else from being found."""
        try:
            await self.load(self._codec.parse_id(text))
        except InvalidDocument:
            if is_named:
                raise
