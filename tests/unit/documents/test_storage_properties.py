"""Promises of the storage that hold for any edits, in any order, however late projections are."""

import asyncio
from collections.abc import Coroutine, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from eventfleet.documents import EditConflict, EventSourcedStorage, MemoryDocuments, NotFound
from eventfleet.documents.diff import apply_diff
from eventfleet.stores.contracts.documents import StoredDocument
from tests.contract.document_types import DataclassGame, ModelGame

IDS = ("g1", "g2")
Kind = Any


class LateDocuments(MemoryDocuments):
    """Holds back what is to be written to documents, and writes it in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[StoredDocument] = []
        self.newest: dict[str, int] = {}

    async def project(self, documents: Sequence[StoredDocument]) -> None:
        self.held += documents

    async def release(self, which: int) -> None:
        """Write one of those held back."""
        if self.held:
            await super().project([self.held.pop(which % len(self.held))])


def plain(document: Any) -> Any:
    if document is None:
        return None
    return document.model_dump() if isinstance(document, BaseModel) else asdict(document)


async def folded(games: EventSourcedStorage[Any], id: str) -> dict[str, Any] | None:
    """The document that its events make."""
    document = None
    for change in await games.get_missing_events(id):
        document = apply_diff(document, change.diff)
    return document


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


class Failed(Exception):
    """What an edit raises."""


steps = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "edit", "fail", "conflict", "delete", "release", "other"]),
        st.sampled_from(IDS),
        st.integers(0, 5),
    ),
    max_size=14,
)


@pytest.mark.parametrize("kind", [DataclassGame, ModelGame])
@settings(max_examples=60, deadline=None)
@given(steps=steps)
@example(
    steps=[("upsert", "g1", 1), ("edit", "g1", 1), ("release", "g1", -1), ("release", "g1", 0)]
)
@example(steps=[("upsert", "g1", 1), ("delete", "g1", 1), *[("release", "g1", n) for n in (-1, 0)]])
def test_what_is_read_is_what_the_events_make(kind: Kind, steps: list[Any]) -> None:
    async def work() -> None:
        store = LateDocuments()
        async with (
            EventSourcedStorage("games", kind, store) as games,
            EventSourcedStorage("games", kind, store) as other,
        ):
            for what, id, number in steps:
                await step(games, other, store, kind, what, id, number)
                for each in IDS:
                    events = await folded(games, each)
                    for storage in (games, other):
                        await check_written(storage, store, each)
                        found = plain(await present(storage, each, events))
                        assert without_identity(found) == events, (what, each)

    run(work())


async def check_written(games: EventSourcedStorage[Any], store: LateDocuments, id: str) -> None:
    """What `find` sees is the document as it was at its version, which never falls."""
    found = [without_identity(plain(each)) for each in await games.find({"_id": id})]
    stored = await store.versions([id])
    assert stored.get(id, 0) >= store.newest.get(id, 0)
    store.newest |= stored
    document = None
    for change in (await games.get_missing_events(id))[: stored.get(id, 0)]:
        document = apply_diff(document, change.diff)
    assert found == ([] if document is None else [document])


async def present(storage: EventSourcedStorage[Any], id: str, events: dict[str, Any] | None) -> Any:
    """The document, as soon as the cache has heard of the last change."""
    async with asyncio.timeout(20):
        while True:
            found = await storage.get(id)
            if without_identity(plain(found)) == events:
                return found
            await asyncio.sleep(0)


def without_identity(found: dict[str, Any] | None) -> dict[str, Any] | None:
    return found and {k: v for k, v in found.items() if k not in ("id", "version")}


async def step(
    games: EventSourcedStorage[Any],
    other: EventSourcedStorage[Any],
    store: LateDocuments,
    kind: Kind,
    what: str,
    id: str,
    number: int,
) -> None:
    def edit(game: Any) -> None:
        game.gold += number
        game.items.append("x")

    def fail(game: Any) -> None:
        edit(game)
        raise Failed

    async def lose(game: Any) -> None:
        await other.find_one_and_update(id, edit)
        edit(game)

    before = deepcopy(await games.get(id))
    mine = await games.get(id)
    try:
        match what:
            case "upsert":
                await games.find_one_and_upsert(kind(id=id, gold=number))
            case "edit":
                await games.find_one_and_update(id, edit)
            case "other":
                await other.find_one_and_update(id, edit)
            case "fail":
                await games.find_one_and_update(id, fail)
            case "conflict":
                await games.find_one_and_update(id, lose)
            case "delete":
                await games.delete_one(id)
            case "release":
                await store.release(number)
    except (NotFound, Failed, EditConflict):
        pass
    assert mine == before, "an edit changed a document that a caller had"
