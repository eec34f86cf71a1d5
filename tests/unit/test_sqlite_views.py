"""Views in a file: rows are found as in memory, with any index, and builds go as a whole."""

import random
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts.views import (
    AggregateSelection,
    BuildProgress,
    Comparison,
    RowFilter,
    RowQuery,
    RowStore,
    StoredRow,
    ViewBuild,
    ViewBuilds,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.memory.views import MemoryRows
from eventfleet.stores.row_filters import place
from eventfleet.stores.sqlite import view_rows, views
from eventfleet.stores.sqlite.database import Database, open_database
from eventfleet.stores.sqlite.views import SqliteViews
from tests.contract.faulty_files import faulty_files

TIME = datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC)
SHAPE = ViewShape(1, "f")
ROW_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'view_rows_*'"

VALUES: dict[str, list[Any]] = {
    "number": [None, 0, -0.0, 1, 2.5, -7, 0.1, 0.1 + 0.2, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1],
    "text": [None, "", "a", "a\0", "a\0b", "ab", "B", "é", "😀", "\uffff", "10", "9", "'", '"'],
    "flag": [None, True, False],
    "listed": [None, [], [1], ["a", None], {}, {"b": 1, "a": [2]}, {"a": [2], "b": 1}],
}
VALUES["mixed"] = [value for values in VALUES.values() for value in values]
ORDERS = [None, "number", "text", "flag"]
OWNERS = ["a", "a1", "a2", "b", "é", "😀"]
INDEXES: list[list[list[str]]] = [
    [],
    [["number"], ["text"], ["mixed"], ["listed"]],
    [["flag", "number"], ["text", "flag", "number"], ["number", "text"], ["mixed", "number"]],
]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "file", 30) as database:
        yield database


def row(id: str, **fields: Any) -> StoredRow:
    return StoredRow(id, fields, FeedPoint(0, 0, 1, 1), TIME)


def random_row(chance: random.Random, number: int) -> StoredRow:
    fields = {name: chance.choice(values) for name, values in VALUES.items()}
    return row(f"{chance.choice(OWNERS)}\0{number}", **fields)


def random_filter(chance: random.Random) -> RowFilter:
    field = chance.choice([*VALUES])
    comparison = chance.choice([*Comparison, *[Comparison.EQUAL] * 4])
    if comparison is Comparison.IN:
        values = VALUES[chance.choice([field, "mixed"])]
        return RowFilter(field, comparison, chance.sample(values, chance.randrange(4)))
    unordered = field in ("listed", "mixed") and comparison is not Comparison.EQUAL
    values = VALUES[chance.choice(["number", "text", "flag"])] if unordered else VALUES[field]
    return RowFilter(field, comparison, chance.choice(values))


def random_query(chance: random.Random) -> RowQuery:
    aggregates = AggregateSelection(
        frozenset(chance.sample(OWNERS, chance.randrange(3))),
        tuple(chance.sample(OWNERS, chance.randrange(2))),
    )
    return RowQuery(
        [random_filter(chance) for _ in range(chance.randrange(4))],
        chance.choice(ORDERS),
        chance.random() < 0.5,
        aggregates=aggregates if chance.random() < 0.3 else None,
    )


@pytest.mark.parametrize("indexes", INDEXES, ids=["none", "one field", "several fields"])
async def test_queries_find_what_they_find_in_memory(
    database: Database, indexes: list[list[str]]
) -> None:
    chance, memory = random.Random(7), MemoryRows()
    stored = SqliteViews(database, "orders").rows("items", "items", 1)
    rows = [random_row(chance, number) for number in range(150)]
    await memory.save(rows)
    await stored.save(rows[:75])
    await stored.prepare(indexes)
    await stored.save(rows[75:])
    for _ in range(300):
        query = random_query(chance)
        found, limit = await memory.find(query, 5), chance.choice([1, 5])
        for _ in range(2):
            page = found[:limit]
            assert await stored.find(query, limit) == page, query
            if page:
                query = query._replace(after=place(page[-1], query.order_by))
                found = await memory.find(query, 5)


async def live(views: SqliteViews, number: int) -> None:
    assert await views.begin("items", ["items"], SHAPE, number - 1)
    assert await views.make_live("items", number, 0)


async def row_tables(database: Database) -> list[str]:
    def read(connection: apsw.Connection) -> list[str]:
        return [str(name) for (name,) in connection.execute(ROW_TABLES)]

    return await database.read(read)


async def ids(rows: RowStore) -> list[str]:
    return [each.id for each in await rows.find(RowQuery(), 100)]


async def test_a_removed_build_leaves_no_table(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_rows, "BATCH_ROWS", 2)
    stored = SqliteViews(database, "orders")
    await live(stored, 1)
    for name in ("items", "totals"):
        await stored.rows("items", name, 1).save([row(f"{n}") for n in range(5)])
    await stored.rows("items", "items", 2).save([row("kept")])
    assert len(await row_tables(database)) == 3
    await live(stored, 2)
    assert await stored.begin("items", ["items"], SHAPE, 2)
    assert len(await row_tables(database)) == 1
    assert await ids(stored.rows("items", "items", 2)) == ["kept"]


async def test_a_removal_that_was_cut_off_is_not_seen_and_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: apsw.Connection, domain: str) -> bool:
        raise LookupError("cut off")

    stored = SqliteViews(database, "orders")
    await live(stored, 1)
    await stored.rows("items", "items", 1).save([row("a")])
    await live(stored, 2)
    with monkeypatch.context() as patch:
        patch.setattr(views, "remove_rows", fail)
        with pytest.raises(LookupError):
            await stored.begin("items", ["items"], SHAPE, 2)
    assert await row_tables(database)
    assert await ids(stored.rows("items", "items", 1)) == []
    assert await stored.begin("others", ["others"], SHAPE, 0)
    assert not await row_tables(database)


async def test_domains_have_builds_and_rows_of_their_own(database: Database) -> None:
    orders, bank = SqliteViews(database, "orders"), SqliteViews(database, "bank")
    for each in (orders, bank):
        await live(each, 1)
    await bank.note_repaired("items", 1)
    await bank.rows("items", "items", 1).save([row("a")])
    assert await ids(orders.rows("items", "items", 1)) == []
    await live(orders, 2)
    assert await orders.begin("items", ["items"], SHAPE, 2)
    assert await ids(bank.rows("items", "items", 1)) == ["a"]
    assert (await bank.builds())["items"] == ViewBuilds(ViewBuild(1, SHAPE, {}))
    assert (await orders.repaired(), await bank.repaired()) == ({}, {"items": 1})


async def test_what_is_noted_of_a_build_outlives_the_power_with_the_rows_saved_before(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    known, left = BuildProgress(), list[Path]()
    with faulty_files() as files:
        files.disk = disk
        async with open_database(tmp_path / "file", 30) as database:
            stored = SqliteViews(database, "orders")
            assert await stored.begin("items", ["items"], SHAPE, 0)
            rows = stored.rows("items", "items", 1)
            for number in range(3):
                await rows.prepare([["n"]])
                await rows.save([row(f"{number}", n=number)])
                progress = BuildProgress(point=FeedPoint(0, 0, number, 1))
                assert await stored.note_progress("items", 1, 0, known, progress)
                left.append(shutil.copytree(disk, tmp_path / f"left-{number}"))
                known = progress
            assert await stored.begin("others", ["others"], SHAPE, 0)
            left.append(shutil.copytree(disk, tmp_path / "left-3"))
    for number, folder in enumerate(left):
        async with open_database(folder / "file", 30) as database:
            stored, at = SqliteViews(database, "orders"), min(number, 2)
            builds = await stored.builds()
            assert builds["items"].next == ViewBuild(
                1, SHAPE, {0: BuildProgress(point=FeedPoint(0, 0, at, 1))}
            )
            assert ("others" in builds) == (number == 3)
            assert await ids(stored.rows("items", "items", 1)) == [f"{n}" for n in range(at + 1)]
