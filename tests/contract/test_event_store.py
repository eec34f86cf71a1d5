"""The contract of the event store, sentence by sentence, over every implementation."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta, timezone
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.stores.contracts import (
    NO_HEAD,
    AssignPosition,
    EventStore,
    Head,
    ParkEvent,
    PlaceParked,
    RefuseParked,
    Tail,
    TailQuery,
    VersionRange,
    Write,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.topics.event import EventKey, EventRecord, Position
from tests.contract.conftest import OpenStores
from tests.contract.samples import (
    DOMAIN,
    PAYLOADS,
    TIME,
    at,
    event,
    ids,
    key,
    stream,
)

KIND = event().type

# prepare


async def test_preparing_again_changes_nothing(store: EventStore) -> None:
    await store.write(stream("a1", 2))
    await store.prepare()
    assert await ids(store.read("a1")) == ["a1-1", "a1-2"]


# What is stored comes back


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_payload_comes_back_as_it_was(store: EventStore, payload: dict[str, Any]) -> None:
    written = event(position=at(0), data=payload)
    await store.write([event("a1", 1, at(0), data=payload)])
    [found] = [e async for e in store.read("a1")]
    assert found == written
    assert _types(found.data) == _types(payload)


async def test_every_field_comes_back(store: EventStore) -> None:
    full = {
        "schema_version": 7,
        "prev": "e0",
        "correlation_id": "c1",
        "causation_id": "c2",
        "actor": "somebody",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "reply_to": "orders.replies",
        "fingerprint": "0123456789abcdef",
        "discarded": True,
    }
    wide = Position(0, 3, 2**40)
    first = event("a1", 1, wide, **full)
    assert None not in [getattr(first, name) for name in first.__struct_fields__]
    second = event("a1", 2, at(2**40 + 1, 3), prev="")
    third = event("a1", 3, at(2**40 + 2, 3))
    await store.write([first, second, third])
    found = [e async for e in store.read("a1")]
    assert found == [replace(first, reply_to=None), second, third]
    assert found[0].time == TIME
    assert found[0].time.utcoffset() == TIME.utcoffset()
    assert [e.prev for e in found] == ["e0", "", None]


async def test_the_address_of_who_waits_is_kept_until_the_event_is_placed(
    store: EventStore,
) -> None:
    put, parked = event("s1", 1, reply_to="me"), event("p1", 1, reply_to="me")
    await store.put([put], 0)
    await store.write([ParkEvent(parked, at(1))])
    assert [each.reply_to for each in await store.sweep(0, 9)] == ["me", "me"]
    await store.write([AssignPosition(put, at(2)), PlaceParked(parked, at(3))])
    found = await store.find([put.key, parked.key])
    assert [found[each.key].reply_to for each in (put, parked)] == [None, None]


# write


async def test_writing_nothing_does_nothing(store: EventStore) -> None:
    await store.write([])
    await store.put([], 0)
    assert await store.count() == 0


CLASHES = {
    "event id": event("a1", 9, at(9), id="a1-2"),
    "version": event("a1", 2, at(9), id="other"),
}


@pytest.mark.parametrize(("condition", "clashing"), CLASHES.items(), ids=CLASHES)
async def test_a_write_ends_at_the_first_clash(
    store: EventStore, condition: str, clashing: Any
) -> None:
    taken = stream("a1", 2)
    await store.write(taken)
    before = [event("b1", 1, at(20)), event("b1", 2, at(21))]
    with pytest.raises(Duplicate) as caught:
        await store.write([*before, clashing, event("b1", 3, at(22)), clashing])
    error = caught.value
    assert (error.index, error.key) == (2, condition)
    assert error.stream == f"{DOMAIN}/{clashing.aggregate_id}"
    assert error.version == clashing.version
    assert str(error) == f"{error.stream} version {error.version}: {condition} is taken"
    assert await ids(store.read("b1")) == ["b1-1", "b1-2"]
    assert await store.count() == len(taken) + len(before)


async def test_the_index_counts_all_writes_in_order(store: EventStore) -> None:
    await store.put([event("s1", 1), event("s1", 2)], 0)
    writes: list[Write] = [
        event("a1", 1, at(0)),
        AssignPosition(event("s1", 1), at(1)),
        event("a1", 2, at(2)),
        AssignPosition(event("s1", 2), at(1)),
        event("a1", 2, at(3), id="again"),
        AssignPosition(event("s1", 1), at(4)),
    ]
    with pytest.raises(Duplicate) as caught:
        await store.write(writes)
    assert (caught.value.index, caught.value.key) == (4, "version")
    assert (await store.heads(["s1"]))["s1"].placed == 2


async def test_a_write_clashes_with_what_it_wrote_itself(store: EventStore) -> None:
    with pytest.raises(Duplicate) as caught:
        await store.write([event("a1", 1, at(0)), event("a1", 1, at(1), id="again")])
    assert (caught.value.index, caught.value.key) == (1, "version")
    assert await ids(store.read("a1")) == ["a1-1"]


async def test_a_place_gives_the_position(store: EventStore) -> None:
    await store.put([event("s1", 1, actor="me", prev="")], 2)
    await store.write([AssignPosition(event("s1", 1), at(7, 2))])
    placed = event("s1", 1, at(7, 2), actor="me", prev="")
    assert await store.find([key("s1", 1)]) == {key("s1", 1): placed}
    assert await store.sweep(2, 10) == []
    assert await store.unplaced([VersionRange("s1", 0, 9)]) == []


async def test_a_second_place_does_nothing(store: EventStore) -> None:
    await store.put([event("s1", 1)], 0)
    await store.write([AssignPosition(event("s1", 1), at(7))])
    await store.write(
        [AssignPosition(event("s1", 1), at(7)), AssignPosition(event("s1", 1), at(8))]
    )
    assert (await store.find([key("s1", 1)]))[key("s1", 1)].position == str(at(7))
    assert await store.placed_at([at(8)]) == []


async def test_several_events_may_have_one_position(store: EventStore) -> None:
    await store.write([event("a1", 1, at(7))])
    await store.put([event("s1", 1)], 0)
    await store.write([event("b1", 1, at(7)), AssignPosition(event("s1", 1), at(7))])
    assert {e.id for e in await store.placed_at([at(7)])} == {"a1-1", "b1-1", "s1-1"}


async def test_a_parked_event_is_found_and_not_read(store: EventStore) -> None:
    await store.write([event("a1", 1, at(3, 2)), ParkEvent(event("a1", 2, prev="a1-1"), at(4, 2))])
    await store.write([ParkEvent(event("a1", 3), at(5, 2))])
    assert (await store.heads(["a1"]))["a1"] == Head(3, "a1-3", 1, KIND, parked=True)
    assert (await store.heads(["a1"]))["a1"].readable == 1
    assert await store.find([key("a1", 2)]) == {key("a1", 2): event("a1", 2, prev="a1-1")}
    assert await ids(store.read("a1")) == ["a1-1"]
    assert await ids(store.read("a1", types=[KIND])) == ["a1-1"]
    assert await store.read_all(["a1"], 9) == [event("a1", 1, at(3, 2))]
    assert await store.tails([TailQuery("a1", 0, "")], 9) == [
        Tail([event("a1", 1, at(3, 2))], None)
    ]
    assert await store.version_at("a1", TIME + timedelta(days=1)) == 1
    assert [e.id for e in await store.sweep(2, 10)] == ["a1-2", "a1-3"]
    assert await store.parked() == {"a1"}


async def test_a_parked_event_is_placed_where_it_was_not_refused(store: EventStore) -> None:
    parked = event("a1", 1)
    await store.write([ParkEvent(parked, at(4, 2, epoch=1))])
    await store.write([RefuseParked(parked, at(9, 2, epoch=1))])
    for late in (at(8, 2, epoch=1), at(9, 2, epoch=1), at(99, 2)):
        await store.write([PlaceParked(parked, late), RefuseParked(parked, late)])
    assert (await store.find([parked.key]))[parked.key].position is None
    await store.write([PlaceParked(parked, at(10, 2, epoch=1))])
    await store.write([RefuseParked(parked, at(11, 2, epoch=1))])
    await store.write([PlaceParked(parked, at(12, 2, epoch=1))])
    placed = event("a1", 1, at(10, 2, epoch=1))
    assert await store.find([parked.key]) == {parked.key: placed}
    assert [e async for e in store.read("a1")] == [placed]
    assert (await store.heads(["a1"]))["a1"] == Head(1, "a1-1", 1, KIND)
    assert await store.placed_at([at(10, 2, epoch=1)]) == [placed]
    assert (await store.sweep(2, 10), await store.parked()) == ([], set())


async def test_a_parked_event_clashes_as_others_do(store: EventStore) -> None:
    await store.write([event("a1", 1, at(0))])
    for clashing, condition in (
        (event("a1", 1, id="x"), "version"),
        (event("a1", 2, id="a1-1"), "event id"),
    ):
        with pytest.raises(Duplicate) as caught:
            await store.write([event(f"b{condition}", 1, at(1)), ParkEvent(clashing, at(2))])
        assert (caught.value.index, caught.value.key) == (1, condition)
    await store.write([PlaceParked(event("a1", 1), at(5)), RefuseParked(event("a1", 1), at(5))])
    assert await ids(store.read("a1")) == ["a1-1"]
    assert await store.parked() == set()


async def test_only_a_parked_event_is_discarded_as_such(store: EventStore) -> None:
    await store.write([event("a1", 1, at(0)), ParkEvent(event("a1", 2), at(1))])
    for version in (1, 2):
        await store.mark_discarded(key("a1", version), parked=True)
    found = await store.find([key("a1", 1), key("a1", 2)])
    assert [found[key("a1", v)].discarded for v in (1, 2)] == [False, True]


async def test_an_event_id_may_be_that_of_another_aggregate_s_event(store: EventStore) -> None:
    events = [event("a1", 1, at(0), id="b:c"), event("a1:b", 1, at(1), id="c")]
    events += [event("a2", 1, at(2), id="b:c")]
    await store.write(events)
    assert await store.find([e.key for e in events]) == {e.key: e for e in events}
    assert [e.id async for e in store.read("a1:b")] == ["c"]


# put


TAKEN = {
    "event id": [event("s1", 3), event("s1", 4), event("s1", 5, id="s1-1")],
    "version": [event("s1", 3), event("s1", 4), event("s1", 2, id="other")],
}


@pytest.mark.parametrize(("condition", "events"), TAKEN.items(), ids=TAKEN)
async def test_a_put_stores_all_or_none(
    store: EventStore, condition: str, events: Sequence[EventRecord]
) -> None:
    await store.put([event("s1", 1), event("s1", 2)], 1)
    with pytest.raises(Duplicate) as caught:
        await store.put(events, 1)
    assert (caught.value.index, caught.value.key) == (2, condition)
    assert (caught.value.stream, caught.value.version) == (f"{DOMAIN}/s1", events[2].version)
    assert await ids(store.read("s1")) == ["s1-1", "s1-2"]


async def test_a_put_of_one_clashes_too(store: EventStore) -> None:
    await store.put([event("s1", 1)], 1)
    with pytest.raises(Duplicate) as caught:
        await store.put([event("s1", 1, id="other")], 1)
    assert (caught.value.index, caught.value.key) == (0, "version")


async def test_a_put_clashes_with_itself(store: EventStore) -> None:
    with pytest.raises(Duplicate) as caught:
        await store.put([event("s1", 1), event("s1", 1, id="other")], 1)
    assert (caught.value.index, caught.value.key) == (1, "version")
    assert await store.count() == 0


async def test_put_events_have_no_position(store: EventStore) -> None:
    events = [event("s1", 1), event("s1", 2)]
    await store.put(events, 1)
    assert [e async for e in store.read("s1")] == events
    assert await store.sweep(1, 10) == events


# find


async def test_find_answers_those_that_are_stored(store: EventStore) -> None:
    await store.write(stream("a1", 3))
    await store.put([event("s1", 1)], 0)
    wanted = [key("a1", 1), key("a1", 3), key("s1", 1), key("absent", 1), key("a1", 1)]
    found = await store.find([*wanted, EventKey("s1", "a1-1")])
    assert found == {
        key("a1", 1): event("a1", 1, at(0)),
        key("a1", 3): event("a1", 3, at(2)),
        key("s1", 1): event("s1", 1),
    }
    assert await store.find([]) == {}


async def test_find_takes_many_ids(store: EventStore) -> None:
    await store.write(stream("a1", 250))
    found = await store.find([key("a1", v) for v in range(1, 400)])
    assert sorted(e.version for e in found.values()) == list(range(1, 251))


# since


async def test_since_answers_what_is_above_a_version_and_the_event_of_an_id(
    store: EventStore,
) -> None:
    await store.write([*stream("a1", 3), *stream("a2", 2, start=10)])
    await store.put([event("a1", 4), event("a1", 5)], 0)
    above = [event("a1", 3, at(2)), event("a1", 4), event("a1", 5)]
    seen = {
        TailQuery("a1", 2, "absent"): Tail(above, None),
        TailQuery("a1", 2, "a1-1"): Tail(above, event("a1", 1, at(0))),
        TailQuery("a1", 2, "a1-4"): Tail(above, event("a1", 4)),
        TailQuery("a1", 2, "a2-2"): Tail(above, None),
        TailQuery("a1", 5, "a1-5"): Tail([], event("a1", 5)),
        TailQuery("a2", 1, "a2-1"): Tail([event("a2", 2, at(11))], event("a2", 1, at(10))),
        TailQuery("absent", 0, "absent"): Tail([], None),
        TailQuery("a1", 4, "absent", ("a1-1", "a1-5", "a2-2")): Tail(
            [event("a1", 5)], None, (event("a1", 1, at(0)), event("a1", 5))
        ),
    }
    for look, expected in seen.items():
        assert await store.tails([look], 10) == [expected]
    assert await store.tails(list(seen), 50) == list(seen.values())


async def test_all_events_of_several_aggregates_are_read_at_once(store: EventStore) -> None:
    await store.write([*stream("b", 2), *stream("a", 3, 2), *stream("c", 1, 5)])
    expected = [*stream("a", 3, 2), *stream("b", 2)]
    assert await store.read_all(["b", "nobody", "a", "b"], 5) == expected
    assert await store.read_all(["b", "a"], 4) is None
    assert await store.read_all(["nobody"], 4) == []


async def test_since_answers_no_more_than_it_may(store: EventStore) -> None:
    await store.write([*stream("a1", 5), *stream("a2", 2, start=10)])
    looks = [TailQuery("a1", 1, "a1-1"), TailQuery("a2", 0, "a2-2")]
    assert await store.tails(looks, 5) is None
    seen = await store.tails(looks, 6)
    assert seen
    assert [len(each.events) for each in seen] == [4, 2]
    assert [each.found and each.found.id for each in seen] == ["a1-1", "a2-2"]


# put_each


async def test_of_events_that_are_put_each_those_are_stored_whose_keys_are_free(
    store: EventStore,
) -> None:
    await store.put([event("s1", 1)], 0)
    await store.put([event("s2", 1)], 0)
    await store.put([event("s3", 1)], 0)
    ends = await store.put_each(
        [
            (event("s1", 2), 0),
            (event("s2", 1, id="other"), 1),
            (event("s3", 2, id="s3-1"), 1),
            (event("s4", 1), 1),
        ]
    )
    found = [end and (end.key, end.stream, end.version) for end in ends]
    assert found == [
        None,
        ("version", "orders/s2", 1),
        ("event id", "orders/s3", 2),
        None,
    ]
    assert await ids(store.read("s1")) == ["s1-1", "s1-2"]
    assert [e.id for e in await store.sweep(1, 10)] == ["s4-1"]


# heads


async def test_heads_are_the_latest_events(store: EventStore) -> None:
    await store.write([*stream("a1", 3), *stream("a2", 1, start=10)])
    assert await store.heads(["a1", "a2", "absent"]) == {
        "a1": Head(3, "a1-3", 3, KIND),
        "a2": Head(1, "a2-1", 1, KIND),
    }
    assert await store.heads([]) == {}


async def test_a_head_tells_the_highest_placed_version(store: EventStore) -> None:
    await store.put([event("s1", v) for v in (1, 2, 3, 4)], 0)
    await store.put([event("s2", v) for v in (1, 2)], 0)
    assert await store.heads(["s1"]) == {"s1": Head(4, "s1-4", 0, KIND)}
    await store.write(
        [AssignPosition(event("s1", 1), at(0)), AssignPosition(event("s1", 2), at(0))]
    )
    await store.write(
        [AssignPosition(event("s2", 1), at(1)), AssignPosition(event("s2", 2), at(1))]
    )
    assert await store.heads(["s1", "s2"]) == {
        "s1": Head(4, "s1-4", 2, KIND),
        "s2": Head(2, "s2-2", 2, KIND),
    }


async def test_a_head_read_while_its_events_are_placed_lags_by_one_at_most(
    store: EventStore, opening: OpenStores
) -> None:
    last = 40
    await store.put([event("s1", 1)], 0)

    async def place() -> None:
        async with opening() as other:
            for version in range(1, last):
                await other.events.write([AssignPosition(event("s1", version), at(version))])
                await other.events.put([event("s1", version + 1)], 0)

    async def watch() -> None:
        while (head := (await store.heads(["s1"]))["s1"]).version < last:
            lags.add(head.version - head.placed)
            await asyncio.sleep(0)

    lags: set[int] = set()
    async with asyncio.timeout(60):
        await asyncio.gather(place(), watch())
    assert lags <= {0, 1}


async def test_heads_of_many_aggregates(store: EventStore) -> None:
    names = [f"a{number}" for number in range(250)]
    for number, name in enumerate(names):
        await store.write(stream(name, 2, start=number * 2))
    heads = await store.heads([*names, "absent"])
    assert heads == {name: Head(2, f"{name}-2", 2, KIND) for name in names}


# unplaced, placed_at, sweep


async def test_unplaced_events_come_by_aggregate_and_version(store: EventStore) -> None:
    await store.put([event("s2", 1), event("s2", 2)], 1)
    await store.put([event("s1", 1), event("s1", 2), event("s1", 3)], 0)
    await store.put([event("s3", 1)], 0)
    await store.write([*stream("a1", 2), AssignPosition(event("s1", 1), at(5))])
    found = await store.unplaced(
        [VersionRange(name, 0, 9) for name in ("s2", "s1", "a1", "absent")]
    )
    assert [e.id for e in found] == ["s1-2", "s1-3", "s2-1", "s2-2"]
    found = await store.unplaced([VersionRange("s1", 2, 9), VersionRange("s2", 0, 1)])
    assert [e.id for e in found] == ["s1-3", "s2-1"]
    assert await store.unplaced([]) == []


async def test_many_unplaced_events_come_in_pages(store: EventStore) -> None:
    for name, count in (("s1", 700), ("s2", 600)):
        await store.put([event(name, version) for version in range(1, count + 1)], 0)
    found = await store.unplaced([VersionRange("s2", 50, 550), VersionRange("s1", 0, 690)])
    expected = [("s1", v) for v in range(1, 691)] + [("s2", v) for v in range(51, 551)]
    assert [(e.aggregate_id, e.version) for e in found] == expected


async def test_placed_at_answers_all_events_of_a_position(store: EventStore) -> None:
    await store.put([event("s1", v) for v in (1, 2, 3)], 1)
    await store.write(
        [
            *(AssignPosition(event("s1", v), at(12, 1)) for v in (1, 2, 3)),
            event("a1", 1, at(12, 0)),
            event("a1", 2, at(11, 0)),
            event("a1", 3, at(12, 0, epoch=1)),
            event("a2", 1, at(13, 1)),
        ]
    )
    wanted = [at(12, 0, epoch=1), at(12, 1), at(11, 0), at(12, 0), at(99, 3), at(12, 1)]
    found = await store.placed_at(wanted)
    assert [e.id for e in found] == ["a1-2", "a1-1", "s1-1", "s1-2", "s1-3", "a1-3"]
    assert await store.placed_at([]) == []


async def test_a_sweep_answers_the_unplaced_of_one_partition(store: EventStore) -> None:
    await store.put([event("s2", 1)], 1)
    await store.put([event("s1", 1), event("s1", 2)], 1)
    await store.put([event("s0", 1)], 2)
    await store.write([event("a1", 1, at(0, 1))])
    assert [e.id for e in await store.sweep(1, 10)] == ["s1-1", "s1-2", "s2-1"]
    assert [e.id for e in await store.sweep(1, 2)] == ["s1-1", "s1-2"]
    assert await store.sweep(0, 10) == []


# read


async def test_read_takes_a_range(store: EventStore) -> None:
    await store.write([*stream("a1", 9), *stream("a2", 2, start=20)])

    async def versions(**arguments: Any) -> list[int]:
        return [e.version async for e in store.read("a1", **arguments)]

    assert await versions() == list(range(1, 10))
    assert await versions(after=3) == [4, 5, 6, 7, 8, 9]
    assert await versions(up_to=2) == [1, 2]
    assert await versions(after=3, up_to=5) == [4, 5]
    assert await versions(after=3, limit=2) == [4, 5]
    assert await versions(after=9) == []
    assert await versions(up_to=0) == []
    assert await versions(limit=0) == []
    assert await ids(store.read("absent")) == []


async def test_read_takes_types(store: EventStore) -> None:
    kinds = ["placed", "paid", "packed", "paid", "shipped"]
    await store.write([event("a1", v, at(v), type=kind) for v, kind in enumerate(kinds, start=1)])
    assert await ids(store.read("a1", types=["paid", "shipped"])) == ["a1-2", "a1-4", "a1-5"]
    assert await ids(store.read("a1", after=2, types=["paid"], limit=1)) == ["a1-4"]
    assert await ids(store.read("a1", types=["unknown"])) == []
    assert await ids(store.read("a1", types=[])) == []


async def test_a_long_stream_comes_whole_and_in_order(store: EventStore) -> None:
    for start in range(0, 1200, 400):
        versions = range(start + 1, start + 401)
        await store.write([event("a1", v, at(v)) for v in versions])
    assert [e.version async for e in store.read("a1")] == list(range(1, 1201))


async def test_a_read_can_be_left(store: EventStore) -> None:
    await store.write(stream("a1", 5))
    async for found in store.read("a1"):
        assert found.version == 1
        break
    assert await store.count() == 5


# version_at


async def test_the_version_at_a_moment_is_the_highest_that_is_not_later(store: EventStore) -> None:
    """Also where times go back and forth: here the fourth event is older than the third."""
    seconds = [0, 10, 30, 20, 40]
    moments = [TIME + timedelta(seconds=after) for after in seconds]
    await store.write([event("a1", v, at(v), time=t) for v, t in enumerate(moments, start=1)])
    await store.write([event("a2", 1, at(9), time=TIME - timedelta(days=1))])
    await store.put([event("a1", 6, time=TIME + timedelta(seconds=50))], 0)

    async def version(after: float) -> int:
        return await store.version_at("a1", TIME + timedelta(seconds=after))

    asked = [-0.001, 0, 0.0009, 9.999, 10, 19.999, 20, 30, 39.999, 40, 50, 10**9]
    assert [await version(after) for after in asked] == [0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 6, 6]
    assert await store.version_at("absent", TIME) == 0


async def test_a_moment_of_any_zone_is_the_same_moment(store: EventStore) -> None:
    await store.write([event("a1", 1, at(0))])
    seoul = timezone(timedelta(hours=9))
    assert await store.version_at("a1", TIME.astimezone(seoul)) == 1
    assert await store.version_at("a1", (TIME - timedelta(seconds=1)).astimezone(seoul)) == 0


# count


async def test_count_counts_all_events(store: EventStore) -> None:
    await store.write(stream("a1", 3))
    await store.put([event("s1", 1)], 0)
    assert await store.count() == 4


# Several writers


async def test_one_of_several_writers_gets_a_version(
    store: EventStore, opening: OpenStores
) -> None:
    lost = set()

    async def race(name: str) -> int:
        won = 0
        async with opening() as other:
            for version in range(1, 21):
                mine = event("a1", version, at(version, ord(name) % 4), id=f"{name}-{version}")
                try:
                    await other.events.write([mine])
                    won += 1
                except Duplicate as error:
                    lost.add(error.key)
        return won

    wins = await asyncio.gather(*map(race, "abcd"))
    assert sum(wins) == 20
    assert lost == {"version"}
    assert [e.version async for e in store.read("a1")] == list(range(1, 21))


async def test_of_puts_that_overlap_each_is_whole_or_absent(
    store: EventStore, opening: OpenStores
) -> None:
    async def race(name: str) -> None:
        async with opening() as other:
            put, tries = 0, 0
            while put < 3 and tries < 200:
                tries += 1
                head = (await other.events.heads(["s1"])).get("s1", NO_HEAD).version
                batch = [event("s1", head + n, id=f"{name}-{put}-{n}") for n in (1, 2, 3)]
                try:
                    await other.events.put(batch, 0)
                    put += 1
                except (Duplicate, ServerUnavailable):
                    await asyncio.sleep(0)
            assert put == 3

    await asyncio.gather(*map(race, "abcd"))
    found = [e async for e in store.read("s1")]
    assert [e.version for e in found] == list(range(1, 37))
    whole = [found[start : start + 3] for start in range(0, 36, 3)]
    assert all([e.id[:-1] for e in three] == [three[0].id[:-1]] * 3 for three in whole)


async def test_what_one_has_written_another_reads(store: EventStore, opening: OpenStores) -> None:
    await store.write(stream("a1", 2))
    async with opening() as other:
        assert (await other.events.heads(["a1"]))["a1"].version == 2
        assert await other.events.find([key("a1", 2)]) == {key("a1", 2): event("a1", 2, at(1))}


def _types(value: Any) -> Any:
    """The value's types, all the way down."""
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_types(inner) for inner in value]
    return type(value)


# epochs


async def test_the_newest_epoch_is_that_of_a_placed_event(store: EventStore) -> None:
    assert await store.newest_epoch() == 0
    await store.put([event("s1", 1)], 0)
    await store.write([event("a1", 1, Position(2, 1, 5)), event("b1", 1, Position(1, 3, 9))])
    assert await store.newest_epoch() == 2


async def test_the_last_placed_event_of_a_partition_is_that_of_its_newest_epoch(
    store: EventStore,
) -> None:
    assert await store.last_placed(1) == FeedPoint.start(1)
    await store.put([event("s1", 1)], 1)
    await store.write([ParkEvent(event("p1", 1), at(99, 1))])
    assert await store.last_placed(1) == FeedPoint.start(1)
    await store.write(
        [event("a1", 1, at(7, 1)), event("a1", 2, at(7, 1)), event("b1", 1, at(5, 3))]
    )
    assert await store.last_placed(1) == FeedPoint(1, 0, 7, 2)
    for _ in range(2):
        await store.registry.raise_epoch()
    await store.write([event("a1", 3, Position(1, 1, 2)), event("c1", 1, Position(2, 2, 9))])
    assert await store.last_placed(1) == FeedPoint(1, 1, 2, 3)
    assert await store.last_placed(3) == FeedPoint(3, 0, 5, 1)
