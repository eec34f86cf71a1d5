"""A document collection as a domain: what a fleet folds of its changes."""

from typing import Any

import msgspec

from eventfleet.documents import (
    EventMapper,
    EventSourcedStorage,
    EventTypes,
    MemoryDocuments,
    document_domain,
)
from eventfleet.documents.document_domain import DocumentState, EditDocument
from eventfleet.model.command_rules import Rejection
from eventfleet.states.live_state import LiveState
from eventfleet.stores.contracts.documents import StoredDocument
from tests.contract.document_types import StructGame


async def folded(store: MemoryDocuments, domain: Any) -> list[Any]:
    """The states of game g1, one after each of its events."""
    live, states = LiveState("g1", domain.state()), []
    async for event in store.changes("g1", 0):
        live.fold(domain, event)
        states.append(live.state)
    return states


async def test_its_state_is_the_document_after_each_change() -> None:
    store = MemoryDocuments()

    def earn(game: StructGame) -> None:
        game.gold += 5

    async with EventSourcedStorage("games", StructGame, store) as games:
        await games.find_one_and_upsert(StructGame("g1", gold=1), "c")
        await games.find_one_and_update("g1", earn, "c")
        await games.delete_one("g1", "c")
        await games.find_one_and_upsert(StructGame("g1", gold=9), "c")
    plain = {"gold": 1, "items": [], "saved_at": None}
    domain = document_domain("games", StructGame)
    assert [msgspec.to_builtins(state) for state in await folded(store, domain)] == [
        {"document": plain, "version": 1},
        {"document": plain | {"gold": 6}, "version": 2},
        {"document": None, "version": 3},
        {"document": plain | {"gold": 9}, "version": 4},
    ]


async def test_its_events_have_the_names_that_the_storage_stores() -> None:
    names = ("GameBegun", "GamePlayed", "GameOver")
    mapper, store = EventMapper(), MemoryDocuments()
    mapper.register("games", EventTypes(*names))
    async with EventSourcedStorage("games", StructGame, store, mapper=mapper) as games:
        await games.find_one_and_upsert(StructGame("g1"), "c")
        await games.delete_one("g1", "c")
    assert [event.type async for event in store.changes("g1", 0)] == ["GameBegun", "GameOver"]
    assert len(await folded(store, document_domain("games", StructGame, mapper=mapper))) == 2
    assert document_domain("games", StructGame).synchronous


async def test_it_begins_with_what_an_adopted_document_was() -> None:
    store = MemoryDocuments()
    await store.project([StoredDocument("g1", 6, {"gold": 9, "items": ["a"]})])

    def earn(game: StructGame) -> None:
        game.gold += 1

    async with EventSourcedStorage("games", StructGame, store) as games:
        await games.find_one_and_update("g1", earn, "c")
    [event] = [event async for event in store.changes("g1", 0)]
    state = document_domain("games", StructGame).fold(DocumentState(), event)
    assert state.document == {"gold": 10, "items": ["a"], "saved_at": None}
    assert state.version == 7


def test_it_rejects_commands_for_documents_are_edited_through_their_storage() -> None:
    outcome = document_domain("games", StructGame).decide(DocumentState(), EditDocument())
    assert isinstance(outcome, Rejection)
    assert "eventfleet.documents" in outcome.reason
