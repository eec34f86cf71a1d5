"""Dead letters of documents' publications and of subscribers, on real servers, as operators see
them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import nats
import pytest
from click.testing import CliRunner
from pymongo import MongoClient

from eventfleet.buses import DerivedEvent, DocumentEvent, NatsBus
from eventfleet.cli import main
from eventfleet.documents import Diff, EventMapper, open_storage
from tests.contract.bus_openings import few_tries as few_tries
from tests.contract.document_openings import earn
from tests.contract.document_types import StructGame

BEYOND_NATS_BYTES = 1_500_000
PATIENCE_SECONDS = 120.0
BAD = {"g7", "g8", "g9"}


class GameMapper(EventMapper):
    """Raises for one game, until the team mends it."""

    mended = False

    def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
        if id == "g7" and not self.mended:
            raise LookupError("no such game")
        return super().map_to_events(collection, id, diff)


class Seen:
    """Notes the versions of each document, once for each event; raises for two, until mended."""

    def __init__(self) -> None:
        self.versions: defaultdict[str, list[int]] = defaultdict(list)
        self.mended = False

    def handle_event(self, event: DocumentEvent) -> None:
        if event.aggregate_id in ("g8", "g9") and not self.mended:
            raise ArithmeticError("no such number")
        if event.version not in self.versions[event.aggregate_id]:
            self.versions[event.aggregate_id].append(event.version)


@pytest.fixture
def database(mongo_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("EVENTFLEET_MONGO_URL", mongo_url)
    monkeypatch.setenv("EVENTFLEET_MONGO_DATABASE", prefix)
    yield prefix
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.drop_database(prefix)


async def deadletters(*arguments: str) -> str:
    """Run the command in a thread, as it has an event loop of its own."""
    done = await asyncio.to_thread(CliRunner().invoke, main, ["deadletters", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_listed(text: str, *source: str) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while text not in (listed := await deadletters("list", *source)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return listed


@pytest.mark.parametrize("games", [400, pytest.param(10_000, marks=pytest.mark.faults)])
async def test_one_document_of_many_that_can_t_be_published(
    mongo_url: str, nats_url: str, database: str, games: int
) -> None:
    seen, mapper = Seen(), GameMapper()
    collection, on_bus = (database, "--collection"), (database, "--bus", nats_url)
    why = ("--version", "1", "--why", "nobody reads it", "--by", "op")
    async with await nats.connect(nats_url) as connection:
        bus = NatsBus(connection, database)
        bus.subscribe("*", seen, "table")
        opening = open_storage(
            mongo_url, database, database, StructGame, bus=bus, mapper=mapper, timeout=60
        )
        async with bus, opening as storage:
            large = StructGame("large", items=["x" * BEYOND_NATS_BYTES])
            await storage.find_one_and_upsert(large)
            for start in range(0, games, 100):
                made = [StructGame(f"g{number}") for number in range(start, start + 100)]
                await asyncio.gather(*map(storage.find_one_and_upsert, made))
            for id in ("g7", "g6"):
                await storage.find_one_and_update(id, earn(1))
            await until(lambda: len(seen.versions) == games - len(BAD))
            await until(lambda: seen.versions["g6"] == [1, 2])
            assert "LookupError: no such game" in await until_listed("g7", *collection)
            assert "EventRefused: NATS stream" in await until_listed("large", *collection)
            shown = await deadletters("show", *collection, "publish", "g7")
            assert 'raise LookupError("no such game")' in shown
            mapper.mended = True
            assert "2 aggregates" in await deadletters("redrive", *collection, "--all")
            await until(lambda: seen.versions["g7"] == [1, 2])
            await deadletters("discard", *collection, "publish", "large", *why)
            await until_listed("nothing is parked", *collection)

            await until_listed("g8", *on_bus)
            assert "ArithmeticError: no such number" in await until_listed("g9", *on_bus)
            seen.mended = True
            await deadletters("redrive", *on_bus, "--aggregate", "g8")
            await until(lambda: seen.versions["g8"] == [1])
            assert "g9" in await deadletters("show", *on_bus, "table", "g9")
            await deadletters("discard", *on_bus, "table", "g9", *why)
            await until_listed("nothing is parked", *on_bus)
    assert seen.versions["g9"] == []
    assert all(versions == sorted(versions) for versions in seen.versions.values())
