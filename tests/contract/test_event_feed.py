"""The event store's paged listings, the whole domain by position and its aggregates."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

import pytest

from eventfleet.stores.contracts import AssignPosition, EventStore, Page, Write
from eventfleet.stores.cursors import FeedPoint, encode_cursor
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo import MongoEvents
from eventfleet.topics.event import EventRecord, Position
from tests.contract.conftest import OpenStores
from tests.contract.samples import DOMAIN, PARTITIONS, at, belonging, event, stream

Listing = Callable[[str, int], Awaitable[Page]]


async def everything(listing: Listing, limit: int, cursor: str = "") -> tuple[list[Any], str]:
    """All items up to the first empty page, and the cursor there."""
    items: list[Any] = []
    while (page := await listing(cursor, limit)).items:
        assert len(page.items) <= limit
        items += page.items
        cursor = page.cursor
    return items, page.cursor


def by_partition(events: list[EventRecord]) -> dict[int, list[str]]:
    """The ids of each partition, in the order in which they came."""
    ids: dict[int, list[str]] = {}
    for found in events:
        ids.setdefault(Position.parse(found.position or "").partition, []).append(found.id)
    return ids


# feed


async def test_an_empty_store_feeds_nothing_yet(store: EventStore) -> None:
    page = await store.feed("", 10)
    assert page.items == []
    await store.write(stream("a1", 1))
    assert (await store.feed(page.cursor, 10)).items == [event("a1", 1, at(0))]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_a_feed_is_in_position_and_version_order(store: EventStore, limit: int) -> None:
    await store.put([event("s1", v) for v in (1, 2, 3)], 1)
    await store.write([AssignPosition(event("s1", v), at(5, 1)) for v in (1, 2, 3)])
    await store.write([event("a2", 1, at(6, 1)), event("a1", 1, at(1, 0)), event("a1", 2, at(3))])
    await store.write([event("a3", 1, at(2, 0)), event("a3", 2, at(4, 3))])
    events, _ = await everything(store.feed, limit)
    assert by_partition(events) == {
        0: ["a1-1", "a3-1", "a1-2"],
        1: ["s1-1", "s1-2", "s1-3", "a2-1"],
        3: ["a3-2"],
    }


async def test_a_feed_gives_whole_events(store: EventStore) -> None:
    written = event("a1", 1, at(1), data={"a.b": {"$c": 2**40}}, prev="", actor="me")
    await store.write([written])
    assert (await store.feed("", 1)).items == [written]


async def test_what_is_placed_later_is_found_from_the_cursor(store: EventStore) -> None:
    await store.write([*stream("a1", 2), *stream("a2", 1, partition=2)])
    await store.put([event("s1", 1), event("s1", 2)], 2)
    events, cursor = await everything(store.feed, 10)
    assert len(events) == 3
    assert (await store.feed(cursor, 10)).items == []
    await store.write(
        [AssignPosition(event("s1", 1), at(8, 2)), AssignPosition(event("s1", 2), at(8, 2))]
    )
    await store.write([event("a1", 3, at(9)), event("a3", 1, at(0, 1))])
    later, cursor = await everything(store.feed, 10, cursor)
    assert by_partition(later) == {0: ["a1-3"], 1: ["a3-1"], 2: ["s1-1", "s1-2"]}
    assert (await store.feed(cursor, 10)).items == []


async def test_a_version_placed_later_at_the_same_offset_is_found(store: EventStore) -> None:
    await store.put([event("s1", 1), event("s1", 2)], 0)
    await store.write([AssignPosition(event("s1", 1), at(4))])
    page = await store.feed("", 10)
    await store.write([AssignPosition(event("s1", 2), at(4))])
    assert [e.id for e in page.items] == ["s1-1"]
    assert [e.id for e in (await store.feed(page.cursor, 1)).items] == ["s1-2"]


async def test_unplaced_events_are_not_in_the_feed(store: EventStore) -> None:
    await store.put([event("s1", 1)], 0)
    assert (await store.feed("", 10)).items == []


async def test_a_feed_passes_gaps_in_the_offsets(store: EventStore) -> None:
    offsets = [3, 4, 5_000_000, 5_000_001, 2**40]
    await store.write([event("a1", v, at(o)) for v, o in enumerate(offsets, start=1)])
    events, _ = await everything(store.feed, 2)
    assert [e.version for e in events] == [1, 2, 3, 4, 5]


async def test_a_feed_passes_to_the_next_epoch(store: EventStore) -> None:
    await store.write([event("a1", 1, at(7)), event("a2", 1, at(8, 1))])
    before, cursor = await everything(store.feed, 10)
    await store.registry.raise_epoch()
    await store.registry.raise_epoch()
    await store.write([event("a1", 2, at(0, 0, epoch=2)), event("a2", 2, at(0, 2, epoch=2))])
    later, _ = await everything(store.feed, 10, cursor)
    assert [sorted(e.id for e in events) for events in (before, later)] == [
        ["a1-1", "a2-1"],
        ["a1-2", "a2-2"],
    ]
    again, _ = await everything(store.feed, 1)
    assert by_partition(again) == {0: ["a1-1", "a1-2"], 1: ["a2-1"], 2: ["a2-2"]}


async def test_nothing_is_missed_while_events_are_placed(
    store: EventStore, opening: OpenStores
) -> None:
    count = 120

    async def place(partition: int) -> None:
        async with opening() as other:
            for offset in range(0, count, 3):
                name = f"a{partition}"
                await other.events.put(
                    [event(name, offset + 2), event(name, offset + 3)], partition
                )
                await other.events.write(
                    [
                        event(name, offset + 1, at(offset, partition)),
                        AssignPosition(event(name, offset + 2), at(offset + 1, partition)),
                        AssignPosition(event(name, offset + 3), at(offset + 1, partition)),
                    ]
                )

    async def read() -> list[EventRecord]:
        events: list[EventRecord] = []
        cursor = ""
        while len(events) < count * PARTITIONS:
            page = await store.feed(cursor, 7)
            events, cursor = events + page.items, page.cursor
            await asyncio.sleep(0)
        return events

    async with asyncio.timeout(120):
        events, *_ = await asyncio.gather(read(), *map(place, range(PARTITIONS)))
    assert by_partition(events) == {
        p: [f"a{p}-{v}" for v in range(1, count + 1)] for p in range(PARTITIONS)
    }


class Reads:
    """A collection; just before its n-th read goes out, the events due at n are placed."""

    def __init__(self, events: Any, store: EventStore, due: Sequence[tuple[int, Write]]) -> None:
        self._events, self._store, self._due = events, store, [*due]
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)

    def find(self, *what: Any) -> "ListedResult":
        return ListedResult(self, self._events.find(*what))

    async def next(self) -> None:
        self._count += 1
        while self._due and self._due[0][0] <= self._count:
            await self.place()

    async def place(self) -> bool:
        """The next one; whether there was any left."""
        if self._due:
            await self._store.write([self._due.pop(0)[1]])
            return True
        return False


class ListedResult:
    """What a read finds, which goes out when it is listed."""

    def __init__(self, reads: Reads, found: Any) -> None:
        self._reads, self._found = reads, found

    def __getattr__(self, name: str) -> Callable[..., "ListedResult"]:
        return lambda *how: ListedResult(self._reads, getattr(self._found, name)(*how))

    async def to_list(self, length: int | None) -> list[Any]:
        await self._reads.next()
        return list(await self._found.to_list(length))


@pytest.mark.parametrize("opening", ["mongodb"], indirect=True)
async def test_nothing_is_missed_that_is_placed_between_the_reads_of_one_page(
    store: EventStore, opening: OpenStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two events at the point that the feed has come to, one close behind it, one far behind it:
    in this order, before any of a page's reads."""
    assert isinstance(store, MongoEvents)
    cursor = ""
    async with opening() as other:
        for turn, moments in enumerate(combinations_with_replacement(range(1, 6), 4)):
            start, name = turn * 1_000, f"s{turn}"
            await store.put([event(name, version) for version in (1, 2, 3)], 0)
            await store.write([AssignPosition(event(name, 1), at(start))])
            _, cursor = await everything(store.feed, 10, cursor)
            late = [
                AssignPosition(event(name, 2), at(start)),
                AssignPosition(event(name, 3), at(start)),
                event(name, 4, at(start + 1)),
                event(name, 5, at(start + 500)),
            ]
            with monkeypatch.context() as patch:
                due = [*zip(moments, late, strict=True)]
                reads = Reads(store._feed._events, other.events, due)
                patch.setattr(store._feed, "_events", reads)
                events, cursor = await everything(store.feed, 10, cursor)
                while await reads.place():
                    pass
            rest, cursor = await everything(store.feed, 10, cursor)
            assert [found.version for found in [*events, *rest]] == [2, 3, 4, 5], moments


# placed


async def all_placed(store: EventStore, partition: int, limit: int) -> list[EventRecord]:
    """A partition's events up to the first empty page."""
    events, point = list[EventRecord](), FeedPoint.start(partition)
    while page := await store.placed(point, limit):
        assert len(page) <= limit
        events, point = events + page, FeedPoint.of(page[-1])
    return events


async def test_an_empty_store_has_placed_nothing(store: EventStore) -> None:
    assert await store.placed(FeedPoint.start(0), 10) == []


@pytest.mark.parametrize("limit", [1, 2, 1000])
async def test_a_partitions_events_come_in_position_and_version_order(
    store: EventStore, limit: int
) -> None:
    await store.put([event("s1", v) for v in (1, 2, 3)], 1)
    await store.write([AssignPosition(event("s1", v), at(5, 1)) for v in (1, 2)])
    await store.write([event("a2", 1, at(6, 1)), event("a1", 1, at(1, 0)), event("a1", 2, at(3))])
    await store.write([event("a3", 1, at(2**40, 1)), event("a3", 2, at(4, 3))])
    await store.registry.raise_epoch()
    await store.write([event("a2", 2, at(0, 1, epoch=1))])
    found = {p: [e.id for e in await all_placed(store, p, limit)] for p in range(PARTITIONS)}
    here = ["s1-1", "s1-2", "a2-1", "a3-1", "a2-2"]
    assert found == {0: ["a1-1", "a1-2"], 1: here, 2: [], 3: ["a3-2"]}


async def test_placed_events_are_whole_and_only_those_behind_the_point(store: EventStore) -> None:
    written = [
        event("a1", 1, at(1), data={"a.b": {"$c": 2**40}}, prev="", actor="me"),
        event("a1", 2, at(2)),
    ]
    await store.write(written)
    assert await store.placed(FeedPoint.start(0), 10) == written
    assert await store.placed(FeedPoint(0, 0, 1, 0), 10) == written
    assert await store.placed(FeedPoint(0, 0, 1, 1), 10) == written[1:]
    assert await store.placed(FeedPoint(0, 0, 2, 2), 10) == []
    assert await store.placed(FeedPoint(0, 7, 0, 0), 10) == []
    assert await store.placed(FeedPoint.start(PARTITIONS + 5), 10) == []


async def test_what_is_placed_later_is_behind_the_last_point(store: EventStore) -> None:
    await store.put([event("s1", 1), event("s1", 2)], 0)
    await store.write([AssignPosition(event("s1", 1), at(4))])
    [first] = await store.placed(FeedPoint.start(0), 10)
    await store.write([AssignPosition(event("s1", 2), at(4)), event("a1", 1, at(5))])
    later = await store.placed(FeedPoint.of(first), 10)
    assert [e.id for e in later] == ["s1-2", "a1-1"]


async def test_nothing_placed_is_missed_while_events_are_placed(
    store: EventStore, opening: OpenStores
) -> None:
    count = 90

    async def place() -> None:
        async with opening() as other:
            for offset in range(0, count, 3):
                await other.events.put([event("a", offset + 2), event("a", offset + 3)], 0)
                await other.events.write(
                    [
                        event("a", offset + 1, at(offset)),
                        AssignPosition(event("a", offset + 2), at(offset + 1)),
                        AssignPosition(event("a", offset + 3), at(offset + 1)),
                    ]
                )

    async def read() -> list[int]:
        versions, point = list[int](), FeedPoint.start(0)
        while len(versions) < count:
            page = await store.placed(point, 7)
            versions += [found.version for found in page]
            point = FeedPoint.of(page[-1]) if page else point
            await asyncio.sleep(0)
        return versions

    async with asyncio.timeout(60):
        versions, _ = await asyncio.gather(read(), place())
    assert versions == [*range(1, count + 1)]


# aggregates


@pytest.mark.parametrize("limit", [1, 4, 1000])
async def test_aggregates_come_in_id_order(store: EventStore, limit: int) -> None:
    await store.write([w for n in range(9, 0, -1) for w in stream(f"a{n}", 2, n * 10)])
    await store.put([event("a55", 1), event("a55", 2)], 0)
    await store.put([event("a77", 1)], 0)
    await store.write([AssignPosition(event("a77", 1), at(500))])
    names = ["a1", "a2", "a3", "a4", "a5", "a55", "a6", "a7", "a77", "a8", "a9"]
    found, cursor = await everything(store.aggregates, limit)
    assert found == names
    await store.write(stream("b1", 1, start=600))
    assert await everything(store.aggregates, limit, cursor) == (
        ["b1"],
        (await store.aggregates(cursor, 1)).cursor,
    )


async def test_aggregates_of_a_partition(store: EventStore) -> None:
    here, there, put = belonging(1, 3), belonging(2, 3), belonging(1, 4)[3]
    await store.write([w for i, n in enumerate(here) for w in stream(n, 3, i * 3, 1)])
    await store.write([w for i, n in enumerate(there) for w in stream(n, 1, i, 2)])
    await store.put([event(put, 1), event(put, 2)], 1)

    async def of_partition(cursor: str, limit: int) -> Page:
        return await store.aggregates(cursor, limit, partition=1)

    for limit in (1, 2, 100):
        assert (await everything(of_partition, limit))[0] == [*here, put]
    await store.write(
        [AssignPosition(event(put, 1), at(50, 1)), AssignPosition(event(put, 2), at(50, 1))]
    )
    assert (await everything(of_partition, 2))[0] == [*here, put]
    assert (await store.aggregates("", 10, partition=3)).items == []


async def test_ids_of_any_script_are_listed_once_each(store: EventStore) -> None:
    names = sorted(["é", "e", "E", "한", "a b", "a/b", "a.b", "$a", "😀", "\ufffd"])
    await store.write([event(name, 1, at(i)) for i, name in enumerate(names)])
    assert sorted((await everything(store.aggregates, 3))[0]) == names


# Cursors


FOREIGN = {
    "no cursor at all": "x",
    "not even ASCII": "é",
    "another domain's": encode_cursor("other.feed", []),
    "another domain's aggregates": encode_cursor("other.aggregates", "a"),
    "of other things": encode_cursor(f"{DOMAIN}.feed", {"a": 1}),
    "of other aggregates": encode_cursor(f"{DOMAIN}.aggregates", 3),
    "before the start": encode_cursor(f"{DOMAIN}.feed", [[0, -1, 0, 0]]),
    "beyond integers": encode_cursor(f"{DOMAIN}.feed", [[0, 0, 2**63, 0]]),
    "at the end of integers": encode_cursor(f"{DOMAIN}.feed", [[0, 0, 2**63 - 1, 0]]),
    "just before the end of integers": encode_cursor(f"{DOMAIN}.feed", [[0, 0, 2**63 - 5, 0]]),
    "of a later epoch": encode_cursor(f"{DOMAIN}.feed", [[0, 7, 0, 0]]),
    "of more partitions": encode_cursor(f"{DOMAIN}.feed", [[p, 0, 0, 0] for p in range(1_500)]),
    "of one partition twice": encode_cursor(f"{DOMAIN}.feed", [[0, 0, 0, 0], [0, 0, 1, 0]]),
}


@pytest.mark.parametrize("cursor", FOREIGN.values(), ids=FOREIGN)
async def test_a_foreign_cursor_is_refused(store: EventStore, cursor: str) -> None:
    await store.write(stream("a1", 1))
    with pytest.raises(Misconfigured, match="is not a cursor of orders"):
        await store.feed(cursor, 10)
    with pytest.raises(Misconfigured, match="is not a cursor of orders"):
        await store.aggregates(cursor, 10)


async def test_listings_do_not_take_each_others_cursors(store: EventStore) -> None:
    await store.write(stream("a1", 1))
    feed, aggregates = await store.feed("", 1), await store.aggregates("", 1)
    with pytest.raises(Misconfigured):
        await store.feed(aggregates.cursor, 1)
    with pytest.raises(Misconfigured):
        await store.aggregates(feed.cursor, 1)
