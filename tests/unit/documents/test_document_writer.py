"""A write whose answer is lost is repeated at once, and not where the server took its time."""

import asyncio
from typing import Any

import msgspec
import pytest

from eventfleet.documents import MemoryClient, open_storage
from eventfleet.errors import ServerUnavailable
from eventfleet.stores.memory.document_store import MemoryDocuments


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
