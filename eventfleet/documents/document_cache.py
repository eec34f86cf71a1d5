"""DocumentCache: the newest known versions of documents, and a bounded cache of the documents."""

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts.documents import StoredDocument

MIN_KNOWN_VERSIONS = 10_000


class DocumentForms(NamedTuple):
    """A document in three forms, made of its stored fields: as its type has it, the fields that the
    type knows as JSON, and all of them as events hold them. The last two are one object where the
    type knows them all."""

    value: Any
    known: dict[str, Any]
    history: dict[str, Any]


@dataclass(slots=True)
class CachedDocument:
    """A document, whether it has no events yet, when it expires (monotonic seconds), and its forms
    once they were made; nothing of them is handed out."""

    document: StoredDocument
    is_adopted: bool
    expires: float
    forms: DocumentForms | None = None


class NewestVersion(NamedTuple):
    """The newest version that is known of a document, and when that was noted."""

    version: int
    moment: int


class DocumentCache:
    """Documents by the text of their ids; each is kept for `seconds` at most.

    A read that may have begun before its document changed is not kept: each put names the `moment`
    at which its read began.
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        self._seconds = seconds
        self._documents: LruCache[CachedDocument] = LruCache(capacity)
        self._newest: LruCache[NewestVersion] = LruCache(max(capacity, MIN_KNOWN_VERSIONS))
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._moment = self._oldest_moment = 0

    @property
    def moment(self) -> int:
        """The present moment, counted in changes of this cache."""
        return self._moment

    def get(self, text: str) -> CachedDocument | None:
        cached = self._documents.get(text)
        if cached is not None and cached.expires < time.monotonic():
            self._documents.take(text)
            return None
        return cached

    def put(
        self,
        text: str,
        document: StoredDocument,
        is_adopted: bool,
        moment: int | None = None,
        forms: DocumentForms | None = None,
    ) -> None:
        """Keep a document that was read from a moment on, or is stored just now.

        Not where a later version is known, or one that was known since then is forgotten.
        """
        known = self._newest.get(text)
        is_forgotten = moment is not None and moment < self._oldest_moment
        if is_forgotten or (known and document.version < known.version):
            return
        expires = time.monotonic() + self._seconds
        self._documents.put(text, CachedDocument(document, is_adopted, expires, forms))
        self.note_version(text, document.version)

    def note_version(self, text: str, version: int) -> bool:
        """Drop a document that is older than this version, and wake those who wait for it.

        False: it was known.
        """
        self._moment += 1
        known = self._newest.get(text)
        if known is not None and version <= known.version:
            return False
        for forgotten in self._newest.put(text, NewestVersion(version, self._moment)):
            self._oldest_moment = max(self._oldest_moment, forgotten.moment)
        cached = self._documents.peek(text)
        if cached is not None and cached.document.version < version:
            self._documents.take(text)
        for arrived in self._waiting.get(text, ()):
            arrived.set()
        return True

    def version(self, text: str) -> int:
        """Return the newest version that is known of a document; 0: none is."""
        known = self._newest.peek(text)
        return known.version if known else 0

    async def wait(self, text: str, seen: int, timeout: float) -> None:
        """Wait until a version beyond `seen` is known of a document, or for `timeout` seconds."""
        if self.version(text) > seen:
            return
        arrived = asyncio.Event()
        self._waiting[text].add(arrived)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await arrived.wait()
        finally:
            self._waiting[text].discard(arrived)
            if not self._waiting[text]:
                del self._waiting[text]

    def drop(self, text: str) -> None:
        """Forget a document, and each read of it that is under way."""
        self._documents.take(text)
        self._forget_reads()

    def clear(self) -> None:
        """Forget all documents, and each read that is under way."""
        self._documents.clear()
        self._forget_reads()

    def _forget_reads(self) -> None:
        self._moment += 1
        self._oldest_moment = self._moment
