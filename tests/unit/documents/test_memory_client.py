"""Storages without a server, opened as those on MongoDB are."""

from typing import Any

import pytest

from eventfleet.documents import Documents, MemoryClient, OpeningFailed, open_storage
from tests.contract.document_types import DataclassGame, StructGame


def new(id: str, gold: int) -> Any:
    return lambda game: game or StructGame(id, gold)


async def test_collections_of_one_client_are_apart_and_stay() -> None:
    client, kinds = MemoryClient(), {"games": StructGame, "rounds": DataclassGame}
    async with Documents(client, "mydb", kinds) as documents:
        await documents.update("games", "g1", new("g1", 5))
        assert await documents["rounds"].get("g1") is None
    async with open_storage(client, "mydb", "games", StructGame) as games:
        assert await games.get("g1") == StructGame("g1", 5, version=1)
    async with open_storage(client, "other", "games", StructGame) as games:
        assert await games.get("g1") is None
    async with open_storage(MemoryClient(), "mydb", "games", StructGame) as games:
        assert await games.get("g1") is None


async def test_options_and_what_fails_are_those_of_mongodb() -> None:
    with pytest.raises(OpeningFailed, match="StructGame has no field 'key'"):
        async with open_storage(MemoryClient(), "mydb", "games", StructGame, id_field="key"):
            pass
    with pytest.raises(OpeningFailed, match="'Games' must begin with a-z"):
        async with open_storage(MemoryClient(), "mydb", "Games", StructGame):
            pass
    async with open_storage(
        MemoryClient(), "mydb", "games", StructGame, version_field="gold"
    ) as games:
        await games.find_one_and_upsert(StructGame("g1"))
        assert await games.find({"gold": 1}) == [StructGame("g1", gold=1)]
