"""What a storage publishes, over every document store and on real buses."""

import asyncio
import random
from typing import Any

import pytest

from eventfleet.buses import DerivedEvent, MemoryBus
from eventfleet.documents import (
    Diff,
    EditConflict,
    EventMapper,
    EventSourcedStorage,
    MemoryDocuments,
)
from eventfleet.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.contracts.dead_letters import DeadLetterStore, Discard, ParkedQuery
from eventfleet.topics.parked import ParkedAggregate
from tests.contract.bus_openings import Buses
from tests.contract.bus_openings import buses as buses
from tests.contract.document_openings import OpenGames, earn, eventually
from tests.contract.document_openings import opening as opening
from tests.contract.document_types import StructGame
from tests.contract.published_events import Published
from tests.contract.samples import TIME
from tests.unit.eventually import until

EXPECTED = [(1, "GameCreated"), *[(n, "GameUpdated") for n in (2, 3, 4)], (5, "GameDeleted")]


class GameMapper(EventMapper):
    """Names the events of games."""

    def __init__(self) -> None:
        super().__init__()
        self.register_type("games", "Game")


async def play(games: EventSourcedStorage[Any], id: str) -> None:
    await games.find_one_and_upsert(StructGame(id), "c")
    for _ in range(3):
        await games.find_one_and_update(id, earn(1), "c")
    await games.delete_one(id, "c")


def storage(opening: OpenGames, bus: Any, mapper: EventMapper | None = None) -> Any:
    return EventSourcedStorage(
        "games", StructGame, opening.store, bus=bus, mapper=mapper or GameMapper()
    )


async def test_each_change_is_published_once_in_version_order(
    opening: OpenGames, buses: Buses
) -> None:
    bus, published = await buses(), Published()
    bus.subscribe("*", published, "published")
    async with bus, storage(opening, bus) as games, storage(opening, bus) as other:
        await asyncio.gather(
            *(play(random.choice((games, other)), f"g{number}") for number in range(10))
        )

        async def all_published() -> bool:
            return all(len(published.events[f"g{n}"]) == 5 for n in range(10))

        await eventually(all_published)
        assert not await opening.store.outbox.pending(10, to_publish=True) or await settled(opening)
    for number in range(10):
        assert published.types(f"g{number}") == EXPECTED


async def settled(opening: OpenGames) -> bool:
    async def empty() -> bool:
        return not await opening.store.outbox.pending(10, to_publish=True)

    await eventually(empty)
    return True


class CountingBus:
    """A bus that notes what one process publishes."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus, self.ids = bus, list[str]()

    async def publish(self, events: Any) -> None:
        self.ids += [event.id for event in events]
        await self._bus.publish(events)


async def test_one_process_of_all_publishes_and_another_follows_it(opening: OpenGames) -> None:
    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published, "published")
    one, other = CountingBus(bus), CountingBus(bus)

    async def published_of(id: str) -> None:
        async def all_published() -> bool:
            return len(published.events[id]) == 5

        await eventually(all_published)

    async with bus:
        first, second = storage(opening, one), storage(opening, other)
        async with first as games:
            await play(games, "g1")
            await published_of("g1")
            await second.start()
            await asyncio.gather(play(games, "g2"), play(second, "g3"))
            await published_of("g2")
            await published_of("g3")
            assert (len(set(one.ids)), other.ids) == (15, [])
        await play(second, "g4")
        await published_of("g4")
        await second.stop()
    assert published.types("g4") == EXPECTED
    assert len(set(other.ids)) == 5


class FailingMapper(GameMapper):
    """Raises for a game, until it is repaired."""

    broken = True

    def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
        if self.broken and id == "g2":
            raise LookupError("no such game")
        return super().map_to_events(collection, id, diff)


async def test_a_document_that_can_t_be_mapped_is_parked_and_others_go_on(
    opening: OpenGames, caplog: pytest.LogCaptureFixture
) -> None:
    bus, published, mapper = MemoryBus(), Published(), FailingMapper()
    bus.subscribe("*", published, "published")
    letters = opening.store.letters
    async with bus, storage(opening, bus, mapper) as games:
        await games.find_one_and_upsert(StructGame("g2"), "c")
        await until_parked(letters, 1)
        await games.find_one_and_update("g2", earn(1), "c")
        await play(games, "g1")
        await until(lambda: published.types("g1") == EXPECTED)
        [parked] = await until_parked(letters, 2)
        assert (parked.role, parked.aggregate_id, parked.first) == ("publish", "g2", 1)
        assert parked.reason == "LookupError: no such game"
        assert 'raise LookupError("no such game")' in parked.details
        assert caplog.text.count("parks 'g2' at version 1") == 1, "it is logged once"
        assert published.types("g2") == []
        mapper.broken = False
        await letters.request(parked, None)
        await until(lambda: published.types("g2") == EXPECTED[:2])
        await until_parked(letters, 0)
        await games.find_one_and_update("g2", earn(1), "c")
        await until(lambda: published.types("g2") == EXPECTED[:3])


async def test_a_discarded_event_is_passed_over(opening: OpenGames) -> None:
    bus, published, mapper = MemoryBus(), Published(), FailingMapper()
    bus.subscribe("*", published, "published")
    letters = opening.store.letters
    async with bus, storage(opening, bus, mapper) as games:
        await games.find_one_and_upsert(StructGame("g2"), "c")
        await games.find_one_and_update("g2", earn(1), "c")
        [parked] = await until_parked(letters, 2)
        mapper.broken = False
        await letters.request(parked, Discard("it is a mistake", "op", TIME))
        await until(lambda: published.types("g2") == EXPECTED[1:2])
        [discarded] = await letters.discarded_by("publish")
        assert (discarded.aggregate_id, discarded.version) == ("g2", 1)


async def until_parked(letters: DeadLetterStore, events: int) -> list[ParkedAggregate]:
    """Wait until so many events of games are listed as parked."""
    found: list[ParkedAggregate] = []

    async def parked() -> bool:
        nonlocal found
        found = await letters.find(ParkedQuery(), 100)
        return sum(each.last - each.first + 1 for each in found) == events

    await eventually(parked)
    return found


class RefusingStore(MemoryDocuments):
    """Refuses to write a document, as a server does one that is too large."""

    async def project(self, documents: Any) -> None:
        if any(document.id == "g2" for document in documents):
            raise Misconfigured("too large")
        await super().project(documents)


async def test_a_document_that_can_t_be_written_is_parked_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventfleet.buses.publisher.LEFT_BEHIND_SECONDS", 0.1)
    store = RefusingStore()
    async with EventSourcedStorage("games", StructGame, store) as games:
        for id in ("g1", "g2", "g3"):
            await games.find_one_and_upsert(StructGame(id), "c")
        [parked] = await until_parked(store.letters, 1)
        assert (parked.role, parked.aggregate_id, parked.first) == ("write", "g2", 1)
        assert parked.reason == "InvalidDocument: document: the store refuses it: too large"
        assert [game.id for game in await games.find()] == ["g1", "g3"]
        assert await games.get("g2") == StructGame("g2", version=1)


async def test_nothing_is_published_of_an_edit_that_raised_or_changed_nothing(
    opening: OpenGames,
) -> None:
    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    async with bus, storage(opening, bus) as games:
        await games.find_one_and_upsert(StructGame("g1"), "c")

        def fail(game: StructGame) -> None:
            game.gold = 9
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await games.find_one_and_update("g1", fail, "c")
        await games.find_one_and_update("g1", lambda game: game, "c")
        await games.find_one_and_update("g1", earn(1), "c")

        async def two() -> bool:
            return len(published.events["g1"]) >= 2

        await eventually(two)
    assert published.types("g1") == EXPECTED[:2]


async def test_of_an_edit_that_conflicted_nothing_is_published(opening: OpenGames) -> None:
    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    async with bus, storage(opening, bus) as games, storage(opening, bus) as other:
        await games.find_one_and_upsert(StructGame("g1"), "c")

        async def lose(game: StructGame) -> None:
            await other.find_one_and_update("g1", earn(1), "other")
            game.items = ["mine"]

        with pytest.raises(EditConflict):
            await games.find_one_and_update("g1", lose, "me")
        await settled(opening)
        present = (await other.get("g1")).version

        async def all_published() -> bool:
            return len(published.events["g1"]) >= present

        await eventually(all_published)
    assert [event.version for event in published.events["g1"]] == [*range(1, present + 1)]
    assert all("items" not in event.data["merge_patch"] for event in published.events["g1"][1:])


async def test_derived_events_are_published_and_never_stored(opening: OpenGames) -> None:
    class PlayMapper(GameMapper):
        def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
            played = DerivedEvent("GamePlayed", "Game", {"by": id})
            return [*super().map_to_events(collection, id, diff), played, played]

    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    async with bus, storage(opening, bus, PlayMapper()) as games:
        await play(games, "g1")

        async def all_published() -> bool:
            return len(published.events["g1"]) == 15

        await eventually(all_published)
        changes = await games.get_missing_events("g1")
    assert [change.version for change in changes] == [1, 2, 3, 4, 5]
    by_version = [(version, [event]) for version, event in EXPECTED]
    assert published.types("g1") == [
        (version, each)
        for version, default in by_version
        for each in [*default, "GamePlayed", "GamePlayed"]
    ]
    for change in changes:
        of_change = [e for e in published.events["g1"] if e.version == change.version]
        assert of_change[0].id == change.id
        assert {event.timestamp for event in of_change} == {change.timestamp}


async def test_a_change_whose_writer_died_after_its_commit_still_goes_out(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    dead = storage(opening, bus)
    with monkeypatch.context() as patch:
        patch.setattr(dead._publisher, "start", lambda: None)
        async with dead as games:
            await play(games, "g1")
    assert await opening.store.outbox.pending(10, to_publish=True)
    async with opening() as without_bus:
        assert await without_bus.get("g1") is None
        assert await opening.store.outbox.pending(10, to_publish=True)
    async with bus, storage(opening, bus):

        async def all_published() -> bool:
            return len(published.events["g1"]) == 5

        await eventually(all_published)
    assert published.types("g1") == EXPECTED


async def test_a_bus_that_is_away_is_tried_again(opening: OpenGames) -> None:
    bus, published = MemoryBus(), Published()
    failures = 2

    class Unsteady:
        async def publish(self, events: Any) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                await bus.publish(events[:1])
                raise ServerUnavailable("the bus is away")
            await bus.publish(events)

    bus.subscribe("*", published)
    async with bus, storage(opening, Unsteady()) as games:
        await play(games, "g1")

        async def all_published() -> bool:
            return len(published.events["g1"]) == 5

        await eventually(all_published)
    assert published.types("g1") == EXPECTED


async def test_a_mapper_may_derive_events_and_none(opening: OpenGames) -> None:
    class GoldMapper(EventMapper):
        def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
            if "gold" not in diff.merge_patch or diff.is_new:
                return []
            return [DerivedEvent("GoldEarned", "Game", {"gold": diff.merge_patch["gold"]})]

    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    async with bus, storage(opening, bus, GoldMapper()) as games:
        await play(games, "g1")
        await settled(opening)

        async def three() -> bool:
            return len(published.events["g1"]) == 3

        await eventually(three)
    assert published.types("g1") == [(n, "GoldEarned") for n in (2, 3, 4)]
    assert len(await opening.store.outbox.pending(10, to_publish=False)) == 0


async def test_what_is_pending_is_published_before_the_end(opening: OpenGames) -> None:
    versions: list[int] = []

    class Noting:
        async def publish(self, events: Any) -> None:
            versions.extend(event.version for event in events)

    async with storage(opening, Noting()) as games:
        await play(games, "g1")
    assert versions == [1, 2, 3, 4, 5]
    assert not await opening.store.outbox.pending(10, to_publish=True)
