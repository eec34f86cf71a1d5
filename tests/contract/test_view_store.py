"""The contracts of the views' stores, sentence by sentence, over every implementation."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

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
    ViewStore,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.mongo.views import MongoRows
from eventfleet.stores.row_filters import passes, rank
from tests.contract.conftest import OpenStores
from tests.contract.samples import PAYLOADS, TIME

ONE, TWO = ViewShape(1, "one"), ViewShape(2, "two")
HERE, THERE = 0, 3


def point(offset: int, version: int = 1, epoch: int = 0, partition: int = HERE) -> FeedPoint:
    return FeedPoint(partition, epoch, offset, version)


def row(id: str, place: FeedPoint | None = None, /, **fields: Any) -> StoredRow:
    return StoredRow(id, fields, place or point(1), TIME)


def tombstone(id: str, at: FeedPoint | None = None, age: timedelta = timedelta()) -> StoredRow:
    return StoredRow(id, None, at or point(1), TIME - age)


@pytest.fixture
async def rows(views: ViewStore) -> RowStore:
    found = views.rows("items", "items", 1)
    await found.prepare([["n"], ["name", "n"], ["tombstones"]])
    return found


async def found(rows: RowStore, *filters: RowFilter, limit: int = 1000, **named: Any) -> list[str]:
    return [each.id for each in await rows.find(RowQuery(filters, **named), limit)]


# Rows: load and save


async def test_a_row_comes_back_as_it_was(rows: RowStore) -> None:
    saved = row("a\0key é", point(2**40, 2**40, 7, 3), text="é\0", n=2**62, none=None, x=1.5)
    gone = tombstone("b")
    await rows.save([saved, gone])
    assert await rows.load(["a\0key é", "b", "absent"]) == {saved.id: saved, "b": gone}
    assert await rows.load([]) == {}


@pytest.mark.parametrize("fields", PAYLOADS.values(), ids=PAYLOADS)
async def test_any_values_in_a_field_come_back(rows: RowStore, fields: dict[str, Any]) -> None:
    for at in (point(1), point(2)):  # stored as a new row, and in place of one
        saved = row("a", at, inner=fields, within=[{"a": fields}])
        await rows.save([saved])
        assert await rows.load(["a"]) == {"a": saved}


async def test_saving_nothing_does_nothing(rows: RowStore) -> None:
    await rows.save([])
    assert await found(rows) == []


async def test_many_are_loaded(rows: RowStore) -> None:
    saved = {f"a{n}": row(f"a{n}", n=n) for n in range(250)}
    await rows.save([*saved.values()])
    assert await rows.load([*saved, *saved, "absent"]) == saved


IN_ORDER = [
    *(point(0, 9), point(1, 1), point(1, 2), point(1, 10), point(7), point(10)),
    point(0, 1, epoch=1),
]


async def test_a_later_point_replaces_and_an_earlier_or_equal_one_does_not(rows: RowStore) -> None:
    for new in range(len(IN_ORDER)):
        for stored in range(len(IN_ORDER)):
            id = f"{new}-{stored}"
            first = row(id, IN_ORDER[stored], by="first")
            second = row(id, IN_ORDER[new], by="second")
            await rows.save([first])
            await rows.save([second])
            expected = second if new > stored else first
            assert await rows.load([id]) == {id: expected}, id


async def test_each_row_of_a_bulk_is_guarded_by_itself(rows: RowStore) -> None:
    await rows.save([row(f"a{n}", point(5), by="first") for n in range(0, 100, 2)])
    await rows.save([row(f"a{n}", point(3 + n % 8), by="second") for n in range(100)])
    stored = await rows.load([f"a{n}" for n in range(100)])
    for n in range(100):
        kept = n % 2 == 0 and 3 + n % 8 <= 5
        assert (stored[f"a{n}"].fields or {})["by"] == ("first" if kept else "second"), n


async def test_tombstones_are_guarded_and_guard(rows: RowStore) -> None:
    await rows.save([row("a", point(3)), tombstone("b", point(3)), tombstone("c", point(3))])
    await rows.save([tombstone("a", point(2)), row("b", point(3)), row("c", point(4), n=1)])
    assert await found(rows) == ["a", "c"]
    await rows.save([tombstone("a", point(4))])
    assert await found(rows) == ["c"]
    assert (await rows.load(["a"]))["a"] == tombstone("a", point(4))


async def test_of_two_writers_at_once_the_later_point_stays(
    rows: RowStore, views: ViewStore, opening: OpenStores
) -> None:
    """Both find no row, and one of them inserts first: whichever it is."""
    ids = [f"a{n}" for n in range(40)]
    async with opening() as other:
        assert other.views
        others = other.views.rows("items", "items", 1)
        for turn in range(5):
            early = [row(f"{turn}-{id}", point(1), by="early") for id in ids]
            late = [row(f"{turn}-{id}", point(2), by="late") for id in ids]
            random.shuffle(late)
            await asyncio.gather(rows.save(early), others.save(late))
            stored = await rows.load([each.id for each in late])
            assert {(each.fields or {})["by"] for each in stored.values()} == {"late"}


@pytest.mark.parametrize("opening", ["mongodb"], indirect=True)
async def test_an_insertion_between_look_and_write_does_not_cost_a_later_row(
    rows: RowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server does when two upserts meet: the second finds the key taken."""
    assert isinstance(rows, MongoRows)
    await rows.save([row("a", point(1), by="early")])
    collection, calls = rows._rows, []

    class Clashing:
        def __getattr__(self, name: str) -> Any:
            return getattr(collection, name)

        async def bulk_write(self, requests: Sequence[Any], **named: Any) -> Any:
            calls.append(requests)
            if len(calls) == 1:
                for request in requests:
                    request._filter = request._filter | {"nowhere": True}
            return await collection.bulk_write(requests, **named)

    monkeypatch.setattr(rows, "_rows", Clashing())
    await rows.save([row("a", point(2), by="late"), row("b", point(1))])
    stored = await rows.load(["a", "b"])
    assert ((stored["a"].fields or {})["by"], len(stored), len(calls)) == ("late", 2, 2)


# Rows: find


VALUES: list[Any] = [
    *(None, -1, 0, 1, 2, 1.5, 2**40, "", "10", "9", "B", "b", "b\0", "b\0a", "é", "한", True, False)
]
COMPARISONS = [each for each in Comparison if each is not Comparison.IN]


@pytest.mark.parametrize("comparison", COMPARISONS)
async def test_filters_compare_values_of_one_kind(rows: RowStore, comparison: Comparison) -> None:
    saved = [row(f"{n:02}", value=value) for n, value in enumerate(VALUES)]
    await rows.save([*saved, row("without"), tombstone("gone")])
    for value in VALUES:
        condition = RowFilter("value", comparison, value)
        expected = [each.id for each in saved if passes(each.fields or {}, [condition])]
        if value is None and comparison is Comparison.EQUAL:
            expected.append("without")
        assert await found(rows, condition) == expected, value


async def test_what_comparisons_mean(rows: RowStore) -> None:
    saved = {"a": 1, "b": 2, "c": 3, "d": None, "e": "2", "f": True}
    await rows.save([row(id, value=value) for id, value in saved.items()])
    expected = {
        Comparison.EQUAL: ["b"],
        Comparison.BELOW: ["a"],
        Comparison.AT_MOST: ["a", "b"],
        Comparison.ABOVE: ["c"],
        Comparison.AT_LEAST: ["b", "c"],
    }
    for comparison, ids in expected.items():
        assert await found(rows, RowFilter("value", comparison, 2)) == ids
        assert await found(rows, RowFilter("value", comparison, 2.0)) == ids
        none = ["d"] if comparison is Comparison.EQUAL else []
        assert await found(rows, RowFilter("value", comparison, None)) == none
    some = RowFilter("value", Comparison.IN, [1, "2", 9, None])
    assert await found(rows, some) == ["a", "d", "e"]
    assert await found(rows, RowFilter("value", Comparison.IN, [])) == []
    assert await found(rows, RowFilter("value", Comparison.IN, [True])) == ["f"]


async def test_all_filters_must_pass(rows: RowStore) -> None:
    await rows.save([row(f"{n}{m}", n=n, m=m) for n in range(4) for m in range(4)])
    low, high = RowFilter("n", Comparison.ABOVE, 0), RowFilter("n", Comparison.BELOW, 3)
    assert await found(rows, low, high, RowFilter("m", Comparison.EQUAL, 2)) == ["12", "22"]
    assert await found(rows, low, RowFilter("absent", Comparison.EQUAL, 1)) == []


async def test_a_field_may_have_the_name_of_one_of_ours(rows: RowStore) -> None:
    names = ["_id", "row", "at", "partition", "deleted_at", "written_at", "tombstones", "ключ"]
    await rows.save([row(name, **{name: 1}) for name in names])
    for name in names:
        assert await found(rows, RowFilter(name, Comparison.EQUAL, 1)) == [name]
        assert (await found(rows, order_by=name, descending=True))[0] == name


async def test_rows_come_by_a_field_then_by_id(rows: RowStore) -> None:
    saved = {"d": 2, "a": 2, "c": None, "b": 1, "e": 10, "f": None}
    await rows.save([row(id, n=n) for id, n in saved.items()])
    await rows.save([row("g"), tombstone("h")])
    assert await found(rows) == [*"abcdefg"]
    assert await found(rows, descending=True) == [*"gfedcba"]
    assert await found(rows, order_by="n") == [*"cfgbade"]
    assert await found(rows, order_by="n", descending=True) == [*"edabgfc"]
    assert await found(rows, order_by="n", limit=2) == ["c", "f"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order_by", [None, "n", "name"])
async def test_pages_lose_and_repeat_nothing(
    rows: RowStore, order_by: str | None, descending: bool
) -> None:
    chance = random.Random(f"{order_by}{descending}")
    numbers, names = [None, 0, 1, 2.5, -7, 2**40], [None, "", "a", "B", "é", "😀", "10", "9"]
    saved = [
        row(f"{n}é", n=chance.choice(numbers), name=chance.choice(names)) for n in range(40)
    ] + [row(f"without {n}") for n in range(5)]
    await rows.save([*saved, *(tombstone(f"gone {n}") for n in range(5))])
    filters = [RowFilter("name", Comparison.IN, [None, "a", "é", "10"])]
    for chosen in ([], filters):

        def place(each: StoredRow) -> Any:
            return (*rank((each.fields or {}).get(order_by or "")), each.id)

        expected = sorted(
            (each for each in saved if passes(each.fields or {}, chosen)),
            key=place,
            reverse=descending,
        )
        for limit in (1, 7, 1000) if not chosen else (3,):
            after, pages = None, list[StoredRow]()
            while True:
                query = RowQuery(chosen, order_by, descending, after)
                page = await rows.find(query, limit)
                pages += page
                if len(page) < limit:
                    break
                last = page[-1]
                after = (last.fields or {}).get(order_by) if order_by else None, last.id
            assert pages == expected


LAST = chr(0x10FFFF)
OWNERS = ["a", "ab", "abc", "b", "é", "😀", "\ud7ff", "\ud7ffx", "\ue000", LAST, LAST * 2]
SELECTIONS = [
    *(([], []), (["a"], []), (["é", "absent"], []), ([], ["a"]), ([], ["ab", "b"])),
    *((["😀"], ["ab"]), ([], ["\ud7ff"]), ([], [LAST]), ([], [LAST * 2]), (["a", "ab"], ["a"])),
]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order_by", [None, "n"])
async def test_rows_of_some_aggregates_alone_are_found(
    rows: RowStore, order_by: str | None, descending: bool
) -> None:
    keys = ("", "key", "ab")
    await rows.save([row(f"{id}\0{key}", n=len(key) % 2) for id in OWNERS for key in keys])
    await rows.save([tombstone("a\0gone")])
    everything = await found(rows, order_by=order_by, descending=descending)
    for ids, prefixes in SELECTIONS:
        starts = (*(f"{id}\0" for id in ids), *prefixes)
        own = AggregateSelection(frozenset(ids), tuple(prefixes))
        query, pages = RowQuery((), order_by, descending, aggregates=own), list[StoredRow]()
        while page := await rows.find(query, 4):
            pages += page
            value = (page[-1].fields or {}).get("n") if order_by else None
            query = query._replace(after=(value, page[-1].id))
        assert [each.id for each in pages] == [id for id in everything if id.startswith(starts)]
        beyond = (None, LAST * 9 if descending else "")
        query = query._replace(order_by=None, after=beyond)
        assert {each.id for each in await rows.find(query, 99)} == {each.id for each in pages}


@pytest.mark.parametrize("opening", ["mongodb"], indirect=True)
async def test_a_page_reads_no_more_rows_than_it_has(rows: RowStore) -> None:
    assert isinstance(rows, MongoRows)
    await rows.save([row(f"{n:04}", n=n % 7, name="a") for n in range(300)])
    for order in ({"row.n": 1, "_id": 1}, {"row.n": -1, "_id": -1}):
        behind = {"$and": [{"row": {"$exists": True}}]}
        explained = await rows._rows.find(behind).sort(order).limit(10).explain()
        assert explained["executionStats"]["totalDocsExamined"] == 10
    filtered = rows._rows.find({"row.name": "a"}).sort({"row.n": 1, "_id": 1}).limit(10)
    assert (await filtered.explain())["executionStats"]["totalDocsExamined"] == 10


async def test_tables_and_builds_do_not_share_rows(views: ViewStore) -> None:
    places = [("a", "a", 1), ("a", "b", 1), ("b", "b", 1), ("a", "a", 2)]
    for place in places:
        await views.rows(*place).save([row("x", place=list(place))])
    for place in places:
        [stored] = await views.rows(*place).find(RowQuery(), 10)
        assert stored.fields == {"place": list(place)}


# Rows: tombstones go


async def test_old_tombstones_up_to_a_point_are_purged(rows: RowStore) -> None:
    hour = timedelta(hours=1)
    gone = [tombstone("a", point(1), 2 * hour), tombstone("b", point(5, 3), 2 * hour)]
    kept = [
        tombstone("young", point(1), hour),
        tombstone("behind", point(5, 4), 2 * hour),
        tombstone("elsewhere", point(1, partition=THERE), 2 * hour),
        row("row", point(1))._replace(written_at=TIME - 2 * hour),
    ]
    await rows.save([*gone, *kept])
    assert await rows.purge(point(5, 3), TIME - hour) == 2
    assert {*await rows.load([each.id for each in [*gone, *kept]])} == {each.id for each in kept}
    assert await rows.purge(point(5, 3), TIME - hour) == 0


async def test_preparing_again_changes_nothing(rows: RowStore) -> None:
    await rows.save([row("a", n=1)])
    await rows.prepare([["n"], ["n", "name", "long" * 30]])
    await rows.prepare([])
    assert await found(rows) == ["a"]


# Builds


async def begun(views: ViewStore, *shapes: ViewShape, view: str = "items") -> None:
    for shape in shapes:
        last = (await views.builds()).get(view, ViewBuilds()).last_number
        assert await views.begin(view, [view, "totals"], shape, last)


async def make_ready(views: ViewStore, number: int, partitions: int = 2) -> None:
    for each in range(partitions):
        known = BuildProgress()
        ready = BuildProgress(ready=True, point=point(9, partition=each))
        assert await views.note_progress("items", number, each, known, ready)


async def test_there_are_no_builds_before_one_is_begun(views: ViewStore) -> None:
    assert await views.builds() == {}
    assert not await views.note_progress("items", 1, 0, BuildProgress(), BuildProgress(True))
    assert not await views.make_live("items", 1, 0)


async def test_a_build_is_begun_beside_the_live_one(views: ViewStore) -> None:
    await begun(views, ONE)
    assert await views.builds() == {"items": ViewBuilds(next=ViewBuild(1, ONE, {}))}
    assert await views.make_live("items", 1, 0)
    await begun(views, TWO)
    builds = ViewBuilds(ViewBuild(1, ONE, {}), ViewBuild(2, TWO, {}))
    assert await views.builds() == {"items": builds}
    assert builds.last_number == 2


async def test_views_have_builds_of_their_own(views: ViewStore) -> None:
    await begun(views, ONE, view="items")
    await begun(views, TWO, ONE, view="items_2")
    builds = await views.builds()
    assert {name: each.last_number for name, each in builds.items()} == {"items": 1, "items_2": 2}


async def test_of_those_who_begin_at_once_one_does(views: ViewStore, opening: OpenStores) -> None:
    async with opening() as other:
        assert other.views
        for last in range(4):
            both = (each.begin("items", ["items"], ONE, last) for each in (views, other.views))
            assert sorted(await asyncio.gather(*both)) == [False, True]
        assert not await views.begin("items", ["items"], TWO, 0)
        assert not await views.begin("items", ["items"], TWO, 3)
        assert not await views.begin("items", ["items"], TWO, 9)
        assert await views.builds() == {"items": ViewBuilds(next=ViewBuild(4, ONE, {}))}


async def test_progress_replaces_the_one_that_was_known(views: ViewStore) -> None:
    await begun(views, ONE)
    steps = [
        BuildProgress(),
        BuildProgress(False, point(-1, 0)),
        BuildProgress(False, point(2**40, 3, 2), 7),
        BuildProgress(True, point(3), 7),
        BuildProgress(False, None, 8),
        BuildProgress(True, None, 8),
        BuildProgress(True, None, 8, stale=True),
        BuildProgress(False, point(4), 9, stale=True),
        BuildProgress(False, point(4), 9, stale=True, held="parks 'a'"),
        BuildProgress(False, point(5), 9, held="parks 'b'"),
    ]
    for known, progress in pairwise(steps):
        for other in {*steps} - {known}:
            assert not await views.note_progress("items", 1, HERE, other, BuildProgress(True))
        assert await views.note_progress("items", 1, HERE, known, progress)
        build = (await views.builds())["items"].next
        assert build
        assert build.partitions == {HERE: progress}
        assert (build.progress(HERE), build.progress(THERE)) == (progress, BuildProgress())
        assert build.stale == progress.stale
        assert build.held == ({HERE: progress.held} if progress.held else {})


async def test_noted_progress_may_be_none_again(views: ViewStore) -> None:
    await begun(views, ONE)
    for _ in range(2):
        known = BuildProgress()
        for progress in (BuildProgress(), BuildProgress(True), BuildProgress()):
            assert await views.note_progress("items", 1, HERE, known, progress)
            known = progress


async def test_of_those_who_note_at_once_one_does(views: ViewStore, opening: OpenStores) -> None:
    await begun(views, ONE)
    async with opening() as other:
        assert other.views
        noted = [
            each.note_progress("items", 1, HERE, BuildProgress(), BuildProgress(True, point(n)))
            for n, each in enumerate((views, other.views))
        ]
        assert sorted(await asyncio.gather(*noted)) == [False, True]


async def test_nothing_is_noted_of_a_build_that_is_gone(views: ViewStore) -> None:
    await begun(views, ONE, TWO)
    ready = BuildProgress(True, point(1))
    assert not await views.note_progress("items", 1, HERE, BuildProgress(), ready)
    assert not await views.note_progress("items", 3, HERE, BuildProgress(), ready)
    assert not await views.note_progress("absent", 2, HERE, BuildProgress(), ready)
    assert await views.builds() == {"items": ViewBuilds(next=ViewBuild(2, TWO, {}))}


async def test_progress_of_the_live_build_is_noted_too(views: ViewStore) -> None:
    await begun(views, ONE)
    await make_ready(views, 1)
    assert await views.make_live("items", 1, 2)
    known = BuildProgress(True, point(9))
    later = BuildProgress(True, point(11))
    assert await views.note_progress("items", 1, HERE, known, later)
    live = (await views.builds())["items"].live
    assert live
    assert live.progress(HERE) == later


async def test_only_the_next_build_is_made_live_and_only_when_ready_everywhere(
    views: ViewStore,
) -> None:
    await begun(views, ONE)
    await make_ready(views, 1, partitions=1)
    assert not await views.make_live("items", 1, 2)
    progress = BuildProgress(False, point(9, partition=1))
    assert await views.note_progress("items", 1, 1, BuildProgress(), progress)
    assert not await views.make_live("items", 1, 2)
    assert not await views.make_live("items", 2, 0)
    assert await views.note_progress("items", 1, 1, progress, progress._replace(ready=True))
    assert await views.make_live("items", 1, 2)
    assert not await views.make_live("items", 1, 2)
    builds = (await views.builds())["items"]
    assert (builds.live and builds.live.number, builds.next) == (1, None)
    await begun(views, TWO)
    assert not await views.make_live("items", 1, 2)
    assert not await views.make_live("items", 2, 2)


async def test_a_build_that_was_left_behind_is_not_made_live(views: ViewStore) -> None:
    await begun(views, ONE)
    await make_ready(views, 1)
    known = BuildProgress(True, point(9))
    behind = BuildProgress(False, point(9), 1)
    assert await views.note_progress("items", 1, HERE, known, behind)
    assert not await views.make_live("items", 1, 2)


async def test_the_build_before_is_kept_until_another_is_begun(views: ViewStore) -> None:
    async def kept() -> list[int]:
        return [n for n in range(1, 6) if await found(views.rows("items", "items", n))]

    for number in (1, 2):
        await begun(views, ONE)
        await make_ready(views, number)
        for table in ("items", "totals"):
            await views.rows("items", table, number).save([row("a")])
        assert await views.make_live("items", number, 2)
    assert await kept() == [1, 2]
    await begun(views, ONE)
    assert await kept() == [2]
    assert await found(views.rows("items", "totals", 1)) == []
    await views.rows("items", "items", 3).save([row("a")])
    await begun(views, TWO)  # 3 is given up
    assert await kept() == [2]


async def test_what_is_written_to_a_build_that_is_gone_goes_too(views: ViewStore) -> None:
    late = views.rows("items", "items", 1)
    await begun(views, ONE)
    await late.save([row("a")])
    await begun(views, ONE)
    await late.save([row("b")])
    await begun(views, ONE)
    assert await found(views.rows("items", "items", 1)) == []
    await begun(views, ONE)
    assert await found(views.rows("items", "items", 1)) == []


async def test_a_build_of_one_view_does_not_touch_another(views: ViewStore) -> None:
    """The totals of one may have had the name that the other has now."""
    await begun(views, ONE, view="totals")
    await views.rows("totals", "totals", 1).save([row("a")])
    await begun(views, ONE, TWO, view="items")
    assert await found(views.rows("totals", "totals", 1)) == ["a"]


async def live(views: ViewStore, number: int, shape: ViewShape) -> None:
    await begun(views, shape)
    await make_ready(views, number)
    assert await views.make_live("items", number, 2)


async def kinds(views: ViewStore) -> list[int | None]:
    return [build and build.number for build in (await views.builds())["items"]]


async def test_the_former_build_is_the_last_live_one_of_another_shape(views: ViewStore) -> None:
    await live(views, 1, ONE)
    await views.rows("items", "items", 1).save([row("a")])
    await live(views, 2, TWO)
    assert await kinds(views) == [2, None, 1]
    await live(views, 3, TWO)
    assert await kinds(views) == [3, None, 1]
    await begun(views, TWO)
    assert await kinds(views) == [3, 4, 1]
    assert await found(views.rows("items", "items", 1)) == ["a"]
    await make_ready(views, 4)
    assert await views.make_live("items", 4, 2)
    builds = (await views.builds())["items"]
    assert [build and build.number for build in map(builds.read_by, (ONE, TWO))] == [1, 4]


async def test_the_former_build_is_made_live_again_once_it_is_ready(views: ViewStore) -> None:
    await live(views, 1, ONE)
    await live(views, 2, TWO)
    ready, behind = BuildProgress(True, point(9)), BuildProgress(False, point(9), 1)
    assert await views.note_progress("items", 1, HERE, ready, behind)
    assert not await views.make_live("items", 1, 2)
    assert await views.note_progress("items", 1, HERE, behind, ready)
    await begun(views, TWO)
    assert await views.make_live("items", 1, 2)
    assert await kinds(views) == [1, 3, 2]
    await make_ready(views, 3)
    assert await views.make_live("items", 3, 2)
    assert await kinds(views) == [3, None, 1]


# Repairs


async def test_the_highest_repaired_build_is_kept_by_view(views: ViewStore) -> None:
    assert await views.repaired() == {}
    for number in (3, 5, 4):
        await views.note_repaired("accounts", number)
    await views.note_repaired("notes", 0)
    assert await views.repaired() == {"accounts": 5, "notes": 0}
