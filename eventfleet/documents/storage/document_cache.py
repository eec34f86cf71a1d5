"""DocumentCache: a bounded cache of stored documents, which the feed of changes makes invalid."""

import time
from typing import NamedTuple

from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts.documents import StoredDocument


class CachedDocument(NamedTuple):
    """A document, whether it has no events yet, and when it expires (monotonic seconds)."""

    document: StoredDocument
    is_adopted: bool
    expires: float


class DocumentCache:
    """Documents by the text of their ids; each is kept for `seconds` at most."""

    def __init__(self, capacity: int, seconds: float) -> None:
        self._seconds = seconds
        self._documents: LruCache[CachedDocument] = LruCache(capacity)
        self._newest: LruCache[int] = LruCache(capacity)

    def get(self, text: str) -> CachedDocument | None:
        cached = self._documents.get(text)
        if cached is not None and cached.expires < time.monotonic():
            self._documents.take(text)
            return None
        return cached

    def put(self, text: str, document: StoredDocument, is_adopted: bool) -> None:
        """Keep a document, unless a later version is known: a read may end after its change."""
        if document.version < (self._newest.get(text) or 0):
            return
        expires = time.monotonic() + self._seconds
        self._documents.put(text, CachedDocument(document, is_adopted, expires))
        self._documents.trim()

    def note_version(self, text: str, version: int) -> None:
        """Drop a document that is older than this version."""
        if version > (self._newest.get(text) or 0):
            self._newest.put(text, version)
            self._newest.trim()
        cached = self._documents.peek(text)
        if cached is not None and cached.document.version < version:
            self._documents.take(text)

    def drop(self, text: str) -> None:
        self._documents.take(text)

    def clear(self) -> None:
        self._documents.clear()
