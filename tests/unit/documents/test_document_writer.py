"""A write whose answer is lost is repeated at once, and not where the server took its time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from eventfleet.documents import MemoryClient, open_storage
from eventfleet.errors import ServerUnavailable
from eventfleet.stores.memory.document_store import MemoryDocuments
from eventfleet.topics.event import EventRecord


class Note(msgspec.Struct):
    id: str


@pytest.mark.parametrize(("seconds", "attempts"), [(0.1, 3), (5.0, 1)])
async def test_a_write_is_repeated_where_its_answer_was_lost_soon(
    seconds: float, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, loop = 0, asyncio.get_running_loop()
    time = loop.time

    async def insert(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        raise ServerUnavailable("away")

    async with open_storage(MemoryClient(), "box", "notes", Note) as notes:
        monkeypatch.setattr(MemoryDocuments, "insert", insert)
        monkeypatch.setattr(loop, "time", lambda: time() + tries * seconds)
        with pytest.raises(ServerUnavailable):
            await notes.find_one_and_upsert(Note("a"))
    assert tries == attempts


class LaggingStore:
    """Stores an insert that it does not acknowledge, and shows it only after some reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, unseen: int) -> None:
        self._insert, self._changes = MemoryDocuments.insert, MemoryDocuments.changes
        self.unseen = unseen
        self.inserted: set[str] = set()
        lagging = self

        async def insert(store: MemoryDocuments, event: EventRecord, **options: Any) -> None:
            first = not lagging.inserted
            lagging.inserted.add(event.id)
            await lagging._insert(store, event, **options)
            if first:
                raise ServerUnavailable("no majority in time")

        async def changes(store: MemoryDocuments, *about: Any) -> AsyncIterator[EventRecord]:
            lagging.unseen -= 1
            if lagging.unseen < 0:
                async for event in lagging._changes(store, *about):
                    yield event

        monkeypatch.setattr(MemoryDocuments, "insert", insert)
        monkeypatch.setattr(MemoryDocuments, "changes", changes)


async def test_a_change_that_is_stored_and_not_seen_yet_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_storage(MemoryClient(), "box", "notes", Note) as notes:
        store = LaggingStore(monkeypatch, unseen=4)
        await notes.find_one_and_upsert(Note("a"))
        assert len(store.inserted) == 1
        assert len(await notes.get_missing_events("a", 0)) == 1


async def test_a_change_that_is_never_seen_is_unavailable_and_nothing_is_tried_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_storage(MemoryClient(), "box", "notes", Note) as notes:
        store = LaggingStore(monkeypatch, unseen=1_000)
        with pytest.raises(ServerUnavailable, match=r"notes/a version 1 .* can't be read yet"):
            await notes.find_one_and_upsert(Note("a"))
        assert len(store.inserted) == 1
