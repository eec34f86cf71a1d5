"""Answers of documents are true at a moment of their call, in random schedules of two processes.

SCHEDULES is the number of schedules in memory; on a real server a twentieth of them run.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.documents import MemoryDocuments
from eventfleet.documents.document_folder import DocumentFolder
from eventfleet.documents.document_reader import DocumentReader
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from eventfleet.stores.mongo.document_stores import open_document_store
from tests.contract.document_schedule import Schedule, Violation

SCHEDULES = int(os.environ.get("SCHEDULES", "150"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
REAL_SHARE = 20
MOST_SCHEDULES_TO_FIND = 500


@pytest.fixture
async def mongodb(mongo_url: str, prefix: str) -> AsyncIterator[DocumentStore]:
    place = mongo_url, prefix, "games", "games.events"
    async with open_document_store(
        *place, version_field="version", partitions=1, timeout=20
    ) as store:
        yield store
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.drop_database(prefix)


async def run_all(schedules: int, store: DocumentStore | None = None) -> None:
    """Run schedules, on one store or each on one in memory."""
    for seed in range(FIRST_SEED, FIRST_SEED + schedules):
        await Schedule(store or MemoryDocuments(), f"s{seed}").run()


async def test_in_memory_every_answer_is_true_at_a_moment_of_its_call() -> None:
    await run_all(SCHEDULES)


async def test_on_a_server_every_answer_is_true_at_a_moment_of_its_call(
    mongodb: DocumentStore,
) -> None:
    await run_all(SCHEDULES // REAL_SHARE, mongodb)


def share_with_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out what the cache has."""
    module = "eventfleet.documents.document_folder.copy_value"
    monkeypatch.setattr(module, lambda fields: fields)


def trust_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take decisions that store nothing on the cached version."""

    async def believed(*_: Any) -> bool:
        return True

    monkeypatch.setattr(DocumentReader, "is_latest", believed)


def compare_decoded_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make patches from the decoded document, with its defaults."""

    def decoded(folder: Any, document: StoredDocument) -> Any:
        if document.fields is None:
            return None
        codec = folder._codec
        return codec.to_json(codec.normalize(document.id, document.fields))

    monkeypatch.setattr(DocumentFolder, "history", decoded)


@pytest.mark.parametrize("plant", [share_with_callers, trust_the_cache, compare_decoded_documents])
async def test_a_fault_that_is_planted_again_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Any
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        await run_all(MOST_SCHEDULES_TO_FIND)
