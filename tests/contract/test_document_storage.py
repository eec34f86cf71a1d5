"""EventSourcedStorage, sentence by sentence, over every document store."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId
from msgspec.structs import replace

from eventfleet.documents import (
    Change,
    ChangeOperation,
    Diff,
    EditConflict,
    InvalidDocument,
    MemoryDocuments,
    NotFound,
    WatchedChange,
)
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.errors import InvalidCursor
from eventfleet.stores.retry import CONFLICT, RetryPolicy
from eventfleet.stores.sqlite.document_store import SqliteDocuments
from tests.contract.document_openings import Games, OpenGames, earn, eventually
from tests.contract.document_openings import games as games
from tests.contract.document_openings import opening as opening
from tests.contract.document_types import GAMES, StructGame

TIME = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)


async def taken(stream: Any, count: int) -> list[Any]:
    found = []
    async with asyncio.timeout(20):
        async for item in stream:
            found.append(item)
            if len(found) == count:
                break
    return found


# Every change


async def test_each_change_has_its_client_an_id_its_document_a_time_and_the_next_version(
    games: Games,
) -> None:
    before = datetime.now(UTC)
    await games.find_one_and_upsert(StructGame("g1"), "game-server")
    await games.find_one_and_update("g1", earn(1), "admin-panel")
    await games.find_one_and_update("g1", earn(1))
    await games.delete_one("g1", "mobile")
    changes = await games.get_missing_events("g1")
    assert [(c.operation, c.client_id, c.version) for c in changes] == [
        ("create", "game-server", 1),
        ("update", "admin-panel", 2),
        ("update", None, 3),
        ("delete", "mobile", 4),
    ]
    assert len({change.id for change in changes}) == 4
    assert {change.document_id for change in changes} == {"g1"}
    assert all(change.diff.version == change.version for change in changes)
    times = [change.timestamp for change in changes]
    millisecond = timedelta(milliseconds=1)
    assert all(before - millisecond <= time <= datetime.now(UTC) for time in times)


async def test_each_document_has_versions_of_its_own(games: Games) -> None:
    for id, edits in (("g1", 2), ("g2", 0), ("g3", 1)):
        await games.find_one_and_upsert(StructGame(id), "server")
        for _ in range(edits):
            await games.find_one_and_update(id, earn(1), "server")
    found = {id: await games.get_missing_events(id, 1) for id in ("g1", "g2", "g3")}
    assert {id: [c.version for c in each] for id, each in found.items()} == {
        "g1": [2, 3],
        "g2": [],
        "g3": [2],
    }


async def test_missing_events_may_be_read_in_parts(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")
    for _ in range(4):
        await games.find_one_and_update("g1", earn(1), "server")
    part = await games.get_missing_events("g1", 1, limit=2)
    assert [change.version for change in part] == [2, 3]
    rest = await games.get_missing_events("g1", part[-1].version)
    assert [change.version for change in rest] == [4, 5]


# Creating


async def test_the_version_is_the_storages_whatever_a_new_document_has(games: Games) -> None:
    assert (await games.find_one_and_upsert(StructGame("g1", version=40), "server")).version == 1
    assert (await games.get("g1")).version == 1


async def test_a_document_is_created_at_version_1(games: Games) -> None:
    created = await games.find_one_and_upsert(StructGame("g1", gold=5, saved_at=TIME), "server")
    assert created == StructGame("g1", gold=5, saved_at=TIME, version=1)
    assert await games.get("g1") == created
    [change] = await games.get_missing_events("g1")
    assert (change.operation, change.client_id, change.version) == ("create", "server", 1)
    assert change.metadata == {"created_doc": change.diff.merge_patch}
    assert change.metadata["created_doc"]["gold"] == 5
    assert change.timestamp.tzinfo is UTC
    assert change.diff == Diff(
        version=1,
        is_new=True,
        has_changes=True,
        merge_patch=change.diff.merge_patch,
        json_patch=change.diff.json_patch,
    )


async def test_a_document_that_is_there_is_returned_and_nothing_stored(games: Games) -> None:
    created = await games.find_one_and_upsert(StructGame("g1", gold=5), "server")
    assert await games.find_one_and_upsert(StructGame("g1", gold=9), "other") == created
    assert len(await games.get_missing_events("g1")) == 1


async def test_of_many_that_create_one_document_one_does(games: Games) -> None:
    made = await asyncio.gather(
        *(games.find_one_and_upsert(StructGame("g1", gold=n), f"c{n}") for n in range(8))
    )
    assert all(game == made[0] for game in made)
    assert len(await games.get_missing_events("g1")) == 1


# Editing


@pytest.mark.parametrize("kind", GAMES.values(), ids=GAMES)
async def test_an_edit_is_stored_with_its_client_and_its_diff(
    opening: OpenGames, kind: type[Any]
) -> None:
    async with opening(kind) as games:
        await games.find_one_and_upsert(kind(id="g1", gold=5), "game-server")

        def edit(game: Any) -> Any:
            game.gold += 50
            game.items.append("sword")
            game.saved_at = TIME
            return game

        edited, diff = await games.find_one_and_update("g1", edit, "admin-panel")
        expected = kind(id="g1", gold=55, items=["sword"], saved_at=TIME, version=2)
        assert edited == expected
        assert diff.version == 2
        assert diff.has_changes
        assert (diff.is_new, diff.is_deleted) == (False, False)
        assert diff.merge_patch == {
            "gold": 55,
            "items": ["sword"],
            "saved_at": "2026-01-02T03:04:05.678000Z",
        }
        assert {each["op"] for each in diff.json_patch} <= {"replace", "add"}
        [change] = await games.get_missing_events("g1", 1)
        assert (change.operation, change.client_id) == (ChangeOperation.UPDATE, "admin-panel")
        assert change.diff == diff
        assert await games.find() == [expected]


async def test_without_a_change_no_event_is_stored(games: Games) -> None:
    created = await games.find_one_and_upsert(StructGame("g1"), "server")
    edited, diff = await games.find_one_and_update("g1", lambda game: game, "admin")
    assert (edited, diff) == (created, Diff(version=1))
    assert len(await games.get_missing_events("g1")) == 1


@pytest.mark.parametrize("raised", [2, 40])
async def test_an_edit_that_raises_the_version_itself_is_stored_at_the_next_one(
    games: Games, raised: int
) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")

    def edit(game: StructGame) -> StructGame:
        game.gold += 1
        game.version = raised
        return game

    edited, diff = await games.find_one_and_update("g1", edit, "admin")
    assert (edited.version, diff.version) == (2, 2)
    assert "version" not in diff.merge_patch


async def test_an_edit_of_the_version_alone_is_no_change(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")

    def edit(game: StructGame) -> None:
        game.version += 1

    edited, diff = await games.find_one_and_update("g1", edit, "admin")
    assert (edited.version, diff.has_changes) == (1, False)


async def test_an_edit_may_be_asynchronous(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")

    async def edit(game: StructGame) -> StructGame:
        await asyncio.sleep(0)
        return StructGame(game.id, gold=7)

    assert (await games.find_one_and_update("g1", edit, "admin"))[0].gold == 7


async def test_what_an_edit_raises_passes_through_and_nothing_is_stored(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1", gold=5, items=["a"]), "server")

    def edit(game: StructGame) -> StructGame:
        game.items.append("b")
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await games.find_one_and_update("g1", edit, "admin")
    assert await games.get("g1") == StructGame("g1", gold=5, items=["a"], version=1)
    assert len(await games.get_missing_events("g1")) == 1


async def test_what_was_returned_is_the_callers_own(games: Games) -> None:
    given = StructGame("g1", items=["a"])
    created = await games.find_one_and_upsert(given, "server")
    given.items.append("x")
    created.items.append("y")
    found = await games.get("g1")
    found.items.append("z")
    assert (await games.get("g1")).items == ["a"]


async def test_a_document_that_can_t_be_stored_is_refused_by_field(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")
    cases: list[tuple[Any, str]] = [
        (lambda game: StructGame("g2"), "id"),
        (lambda game: StructGame("g1", gold="many"), "gold"),  # type: ignore[arg-type]
        (lambda game: StructGame("g1", gold=2**70), "gold"),
        (lambda game: StructGame("g1", items=["x" * 17_000_000]), "games 'g1'"),
        (lambda game: {"gold": 3}, "document"),
    ]
    for edit, field in cases:
        with pytest.raises(InvalidDocument) as raised:
            await games.find_one_and_update("g1", edit, "admin")
        assert field in str(raised.value), raised.value
    assert len(await games.get_missing_events("g1")) == 1
    with pytest.raises(InvalidDocument, match="id"):
        await games.find_one_and_upsert(StructGame(""), "server")


async def test_many_edits_at_once_all_count(opening: OpenGames) -> None:
    async with opening() as one, opening() as other:
        await one.find_one_and_upsert(StructGame("g1"), "server")
        for _ in range(5):
            await asyncio.gather(
                *(each.find_one_and_update("g1", earn(1), "c") for each in (one, other) * 2)
            )
        assert await other.find(at_least={"g1": 21}) == [StructGame("g1", gold=20, version=21)]
        versions = [change.version for change in await one.get_missing_events("g1")]
        assert versions == [*range(1, 22)]
        assert await one.find(at_least={"g1": 21}) == [StructGame("g1", gold=20, version=21)]


async def test_an_absent_or_deleted_document_is_not_found(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g2"), "server")
    await games.delete_one("g2", "admin")
    for id in ("g1", "g2"):
        with pytest.raises(NotFound, match=id):
            await games.find_one_and_update(id, earn(1), "admin")
        with pytest.raises(NotFound, match=id):
            await games.delete_one(id, "admin")
        assert await games.get(id) is None


async def test_when_attempts_run_out_both_diffs_are_in_the_conflict(opening: OpenGames) -> None:
    async with opening() as games, opening() as other:
        await games.find_one_and_upsert(StructGame("g1"), "server")

        tried: list[int] = []

        async def edit(game: StructGame) -> None:
            tried.append(game.version)
            assert game.items == []
            await other.find_one_and_update("g1", earn(1), "other")
            game.items = ["mine"]

        with pytest.raises(EditConflict) as raised:
            await games.find_one_and_update("g1", edit, "me")
        assert len(tried) == CONFLICT.attempts
        conflict = raised.value
        assert conflict.present > conflict.expected
        assert conflict.attempted.merge_patch == {"items": ["mine"]}
        assert conflict.others[-1].merge_patch == {"gold": conflict.present - 1}
        clients = {change.client_id for change in await games.get_missing_events("g1", 1)}
        assert clients == {"other"}


@pytest.mark.parametrize("what", ["upsert", "update", "delete"])
async def test_attempts_of_every_change_have_an_end(
    games: Games, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what != "upsert":
        await games.find_one_and_upsert(StructGame("g1"), "server")
    tried = 0

    async def lose(_: Any) -> bool:
        nonlocal tried
        tried += 1
        return False

    monkeypatch.setattr(games._writer, "_commit", lose)
    monkeypatch.setattr("eventfleet.documents.document_writer.CONFLICT", RetryPolicy(0, 0, 10))
    works: dict[str, Any] = {
        "upsert": lambda: games.find_one_and_upsert(StructGame("g1", gold=3), "me"),
        "update": lambda: games.edit_or_create("g1", earn(3), "me"),
        "delete": lambda: games.delete_one("g1", "me"),
    }
    with pytest.raises(EditConflict, match="games 'g1'") as raised:
        await works[what]()
    assert tried == 10
    assert raised.value.attempted.is_new == (what == "upsert")
    assert raised.value.attempted.is_deleted == (what == "delete")
    assert len(await games.get_missing_events("g1")) == (what != "upsert")


# Deleting


async def test_a_deleted_document_is_hidden_and_goes_on_at_the_next_version(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1", gold=5), "server")
    await games.delete_one("g1", "admin")
    assert await games.get("g1") is None
    assert await games.find() == []
    again = await games.find_one_and_upsert(StructGame("g1", gold=7), "server")
    assert again.version == 3
    changes = await games.get_missing_events("g1", 1)
    assert [(c.version, c.operation) for c in changes] == [(2, "delete"), (3, "create")]
    assert changes[0].diff == Diff(version=2, is_deleted=True)


async def test_a_late_write_does_not_resurrect_a_document(opening: OpenGames) -> None:
    async with opening() as games:
        await games.find_one_and_upsert(StructGame("g1", gold=5), "server")
        await games.find()
        await games.delete_one("g1", "admin")
        await games.find()
        await opening.store.project([StoredDocument("g1", 1, {"gold": 5})])
        assert await games.find() == []
        assert await games.get("g1") is None


# Reading


async def test_a_filter_an_order_and_a_page(games: Games) -> None:
    for n in range(5):
        await games.find_one_and_upsert(StructGame(f"g{n}", gold=n), "server")
    found = await games.find({"gold": {"$gte": 1}}, sort=[("gold", -1)], skip=1, limit=2)
    assert [game.gold for game in found] == [3, 2]


async def test_find_is_eventual_and_waits_for_the_versions_that_are_named(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.buses.publisher.LEFT_BEHIND_SECONDS", 600.0)
    async with opening() as games, opening() as other:
        await other.find_one_and_upsert(StructGame("g1"), "server")
        await other.find()
        monkeypatch.setattr(other._projector, "put", lambda *_: asyncio.sleep(0))
        await other.find_one_and_update("g1", earn(5), "server")
        assert await games.find() == [StructGame("g1", version=1)]
        assert await games.find(at_least={"g1": 2}) == [StructGame("g1", gold=5, version=2)]


async def test_a_process_finds_its_own_changes_at_once(games: Games) -> None:
    for number in range(20):
        await games.find_one_and_upsert(StructGame("g1", gold=number), "server")
        assert [game.gold for game in await games.find()] == [number]
        await games.find_one_and_update("g1", earn(100), "server")
        assert [game.gold for game in await games.find()] == [number + 100]
        await games.delete_one("g1", "server")
        assert await games.find() == []


async def test_changes_are_written_and_settled_together(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.documents.projector.COLLECT_SECONDS", 600.0)
    written: list[dict[str, int]] = []
    settled: list[int] = []
    project, settle = opening.store.project, opening.store.outbox.settle

    async def noted_project(documents: Any) -> None:
        written.append({each.id: each.version for each in documents})
        await project(documents)

    async def noted_settle(keys: Any, *more: Any) -> None:
        settled.append(len(keys))
        await settle(keys, *more)

    monkeypatch.setattr(opening.store, "project", noted_project)
    monkeypatch.setattr(opening.store.outbox, "settle", noted_settle)
    async with opening() as games:
        for id in ("g1", "g2"):
            await games.find_one_and_upsert(StructGame(id), "server")
            for _ in range(9):
                await games.find_one_and_update(id, earn(1), "admin")
        assert not written
        assert [game.gold for game in await games.find()] == [9, 9]
        await games.find_one_and_update("g1", earn(1), "admin")
    assert written == [{"g1": 10, "g2": 10}, {"g1": 11}]
    assert settled == [20, 1]
    assert not await opening.store.outbox.pending(10, to_publish=False)


@pytest.mark.parametrize("watch", [True, False])
async def test_own_changes_are_watched_without_the_feed(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    monkeypatch.setattr("eventfleet.documents.event_sourced.WATCH_POLL_SECONDS", 600.0)
    async with opening(watch=watch) as games:
        await games.find_one_and_upsert(StructGame("g1"), "server")
        await games._feed.stop()
        watching = asyncio.ensure_future(taken(games.watch("g1"), 3))
        for gold in (1, 2):
            await asyncio.sleep(0)
            await games.find_one_and_update("g1", earn(gold), "admin")
        assert [change.version for change in await watching] == [1, 2, 3]


async def test_a_document_that_lags_is_repaired_by_reading(opening: OpenGames) -> None:
    async with opening() as games:
        await games.find_one_and_upsert(StructGame("g1"), "server")
        for _ in range(9):
            await games.find_one_and_update("g1", earn(1), "admin")
    store = opening.store
    behind = StoredDocument("g2", 1, {"gold": 0, "items": [], "saved_at": None})
    async for event in store.changes("g1", 0):
        await store.insert(replace(event, aggregate_id="g2", id=f"{event.id}-2"), to_publish=False)
    await store.project([behind])
    async with opening() as games:
        assert await games.get("g2") == StructGame("g2", gold=9, version=10)
        await games.find()
        assert await store.versions(["g2"]) == {"g2": 10}


async def test_what_a_dead_writer_has_not_written_is_written_by_another(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opening() as games:
        with monkeypatch.context() as dead:
            dead.setattr(games._projector, "put", lambda *_: asyncio.sleep(0))
            await games.find_one_and_upsert(StructGame("g1", gold=5), "server")
    monkeypatch.setattr("eventfleet.buses.publisher.LEFT_BEHIND_SECONDS", 0.1)
    async with opening() as games:

        async def written() -> bool:
            pending = await opening.store.outbox.pending(10, to_publish=False)
            return bool(await games.find()) and not pending

        await eventually(written)


@pytest.mark.parametrize("watch", [True, False])
async def test_another_processs_edit_makes_the_cache_invalid(
    opening: OpenGames, watch: bool
) -> None:
    seconds = 600.0 if watch else 0.1
    async with opening(watch=watch, cache_seconds=seconds) as games, opening() as other:
        await games.find_one_and_upsert(StructGame("g1"), "server")
        # The first round ends when the feed is open, if not before.
        for gold in (5, 10):
            await other.find_one_and_update("g1", earn(5), "other")

            async def seen(gold: int = gold) -> bool:
                return bool((await games.get("g1")).gold == gold)

            await eventually(seen)


async def test_a_document_is_read_as_it_was_after_a_version_or_at_a_time(games: Games) -> None:
    await games.find_one_and_upsert(StructGame("g1"), "server")
    for gold in (5, 10):
        await games.find_one_and_update("g1", earn(gold), "server")
    await games.delete_one("g1", "server")
    await games.find_one_and_upsert(StructGame("g1", gold=1), "server")
    states = [await games.at("g1", version=version) for version in range(7)]
    gold = [state and (state.gold, state.version) for state in states]
    assert gold == [None, (0, 1), (5, 2), (15, 3), None, (1, 5), None]
    for change in await games.get_missing_events("g1"):
        highest = max(
            each.version
            for each in await games.get_missing_events("g1")
            if each.timestamp <= change.timestamp
        )
        assert await games.at("g1", time=change.timestamp) == states[highest]
    assert await games.at("g1", time=TIME) is None
    assert await games.at("none", version=1) is None


async def test_an_adopted_document_is_read_from_its_floor_on(opening: OpenGames) -> None:
    await opening.store.project([StoredDocument("g1", 4, {"gold": 7})])
    async with opening() as games:
        assert (await games.at("g1", version=4)).gold == 7
        await games.find_one_and_update("g1", earn(1), "admin")
        await games.find_one_and_update("g1", earn(1), "admin")
        states = [await games.at("g1", version=version) for version in (3, 4, 5, 6, 7)]
        assert [state and state.gold for state in states] == [None, 7, 8, 9, None]


@pytest.mark.parametrize("wrong", [{}, {"version": 1, "time": TIME}])
async def test_a_state_is_that_of_a_version_or_of_a_time(games: Games, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a version or a time"):
        await games.at("g1", **wrong)
    with pytest.raises(ValueError, match="has no time zone"):
        await games.at("g1", time=TIME.replace(tzinfo=None))


async def drop_documents(store: Any) -> None:
    if isinstance(store, MemoryDocuments):
        store._documents.clear()
    elif isinstance(store, SqliteDocuments):
        await store._database.write(lambda each: each.execute("DELETE FROM documents"))
    else:
        await store._documents.drop()


async def test_a_dropped_collection_is_noticed_and_written_again(opening: OpenGames) -> None:
    store: Any = opening.store
    await store.project([StoredDocument("g1", 4, {"gold": 7})])
    async with opening() as games:
        await games.find_one_and_update("g1", earn(1), "admin")
        for id in ("g2", "g3"):
            await games.find_one_and_upsert(StructGame(id, gold=2), "server")
        await games.delete_one("g3", "server")
        expected = await games.find()
        assert [game.id for game in expected] == ["g1", "g2"]
        assert await games.find({"gold": 99}) == []
        await drop_documents(store)
        assert await games.find({"gold": 2}) == expected[1:]
        assert await games.find() == expected


# Documents that were there before


async def test_a_document_that_was_there_is_adopted_at_its_version(opening: OpenGames) -> None:
    fields = {"gold": 9, "items": ["a"], "saved_at": None, "legacy": {"kept": True}}
    async with opening() as games:
        await opening.store.project([StoredDocument("g1", 6, fields)])
        assert await games.get("g1") == StructGame("g1", gold=9, items=["a"], version=6)
        assert await games.get_missing_events("g1") == []
        edited, _ = await games.find_one_and_update("g1", earn(1), "admin")
        assert (edited.gold, edited.version) == (10, 7)
        [change] = await games.get_missing_events("g1")
        assert (change.version, change.floor) == (7, 6)
        assert change.metadata["adopted_doc"]["gold"] == 9
        await games.find_one_and_update("g1", earn(1), "admin")
        assert (await games.get_missing_events("g1"))[-1].floor == 0
        await games.find()
    tail = await opening.store.load("g1", "g1")
    assert tail.document
    assert tail.document.fields
    assert tail.document.fields["legacy"] == {"kept": True}


# Watching


@pytest.mark.parametrize("watch", [True, False])
async def test_a_document_is_watched_from_a_version_on(
    opening: OpenGames, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    poll = 600.0 if watch else 0.05
    monkeypatch.setattr("eventfleet.documents.event_sourced.WATCH_POLL_SECONDS", poll)
    async with opening(watch=watch) as games, opening() as other:
        await games.find_one_and_upsert(StructGame("g1"), "server")
        await games.find_one_and_update("g1", earn(1), "admin")
        watching: asyncio.Task[list[Change]] = asyncio.create_task(taken(games.watch("g1", 1), 3))
        await other.find_one_and_update("g1", earn(1), "other")
        await other.delete_one("g1", "other")
        assert [change.version for change in await watching] == [2, 3, 4]


async def test_a_collection_is_watched_and_resumed_from_a_cursor(opening: OpenGames) -> None:
    async with opening() as games:
        seen: list[WatchedChange[Any]] = []

        async def watch(note: Callable[[WatchedChange[Any]], None]) -> None:
            async for change in games.watch_all(full_document=True):
                note(change)

        watching = asyncio.create_task(watch(seen.append))
        await games.find_one_and_upsert(StructGame("g0"), "server")

        async def begun() -> bool:
            await games.find_one_and_update("g0", earn(1), "server")
            return bool(seen)

        await eventually(begun)
        await games.find_one_and_upsert(StructGame("g1"), "server")
        await games.find_one_and_update("g1", earn(1), "admin")

        async def two() -> bool:
            return len(of_g1()) == 2

        def of_g1() -> list[WatchedChange[Any]]:
            return [each for each in seen if each.change.document_id == "g1"]

        await eventually(two)
        watching.cancel()
        first, second = of_g1()
        assert (first.change.operation, second.change.diff.merge_patch) == ("create", {"gold": 1})
        assert second.document == StructGame("g1", gold=1, version=2)
        await games.delete_one("g1", "admin")
        [again, deletion] = await taken(games.watch_all(first.cursor), 2)
        assert again.change == second.change
        assert (again.document, deletion.change.operation) == (None, "delete")


@pytest.mark.parametrize("full", [True, False])
async def test_whether_a_watch_has_full_documents_is_an_option_of_the_storage(
    opening: OpenGames, full: bool
) -> None:
    async with opening(full_document=full) as games:
        await games.find_one_and_upsert(StructGame("g1"), "server")
        watching = asyncio.create_task(taken(games.watch_all(), 1))
        while not watching.done():
            await games.find_one_and_update("g1", earn(1), "server")
            await asyncio.sleep(0.02)
        [seen] = await watching
        assert (seen.document is not None) == full


async def test_a_cursor_that_is_none_is_refused(games: Games) -> None:
    with pytest.raises(InvalidCursor, match="nonsense"):
        await taken(games.watch_all("nonsense"), 1)


# Ids


@dataclass
class Numbered:
    """A document whose id is a number."""

    id: int
    name: str = ""


@dataclass
class Universal:
    """A document whose id is a UUID."""

    id: UUID
    name: str = ""


@dataclass
class Native:
    """A document whose id is MongoDB's own."""

    id: ObjectId
    name: str = ""


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        (Numbered, 7),
        (Universal, UUID("6f1f3a52-9d0a-5c57-9c55-6d7b0a1d3c11")),
        (Native, ObjectId("650000000000000000000001")),
    ],
)
async def test_ids_keep_their_type(opening: OpenGames, kind: type[Any], id: Any) -> None:
    async with opening(kind) as games:
        await games.find_one_and_upsert(kind(id, "a"), "server")

        def edit(document: Any) -> None:
            document.name = "b"

        assert (await games.find_one_and_update(id, edit))[0] == kind(id, "b")
        assert await games.find(at_least={id: 2}) == [kind(id, "b")]
        assert [change.document_id for change in await games.get_missing_events(id)] == [
            str(id)
        ] * 2
