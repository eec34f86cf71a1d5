"""The cache of documents: bounded, with an expiry, and never behind a version that is known."""

import pytest

from eventfleet.documents import document_cache
from eventfleet.documents.document_cache import DocumentCache
from eventfleet.stores.contracts.documents import StoredDocument


def document(id: str, version: int = 1) -> StoredDocument:
    return StoredDocument(id, version, {})


def version(cache: DocumentCache, id: str) -> int | None:
    found = cache.get(id)
    return found and found.document.version


def test_it_holds_so_many_documents_the_last_used_ones() -> None:
    cache = DocumentCache(2, 600)
    for id in ("a", "b"):
        cache.put(id, document(id), is_adopted=False)
    cache.get("a")
    cache.put("c", document("c"), is_adopted=False)
    assert [version(cache, id) for id in "abc"] == [1, None, 1]


def test_a_document_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(document_cache.time, "monotonic", lambda: now)
    cache = DocumentCache(2, 60)
    cache.put("a", document("a"), is_adopted=False)
    now += 59
    assert version(cache, "a") == 1
    now += 2
    assert version(cache, "a") is None


def test_a_later_version_that_is_known_drops_a_document_and_keeps_it_out() -> None:
    cache = DocumentCache(2, 600)
    cache.put("a", document("a", 2), is_adopted=False)
    cache.note_version("a", 2)
    assert version(cache, "a") == 2
    cache.note_version("a", 3)
    assert version(cache, "a") is None
    cache.put("a", document("a", 2), is_adopted=False)
    assert version(cache, "a") is None, "a read that ends after the change"
    cache.put("a", document("a", 3), is_adopted=False)
    cache.note_version("a", 1)
    assert version(cache, "a") == 3, "notes may come late"
