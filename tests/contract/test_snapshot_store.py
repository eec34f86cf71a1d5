"""The contract of the snapshot store, sentence by sentence, over every implementation."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import ShapeCount, Snapshot, SnapshotStore
from tests.contract.conftest import OpenStores
from tests.contract.samples import KEPT, PAYLOADS, TIME

ONE, RENAMED, RAISED = StateShape(1, "one"), StateShape(1, "renamed"), StateShape(2, "renamed")


def snapshot(
    aggregate_id: str = "a1", version: int = 1, shape: StateShape = ONE, **state: Any
) -> Snapshot:
    state = state or {"version": version}
    return Snapshot(aggregate_id, version, state, shape.version, TIME, shape.fingerprint)


@pytest.mark.parametrize("state", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_state_comes_back_as_it_was(
    snapshots: SnapshotStore, state: dict[str, Any]
) -> None:
    saved = Snapshot("a1", 2**40, state, 3, TIME, "f")
    await snapshots.save([saved])
    assert await snapshots.latest(["a1"], StateShape(3, "f")) == {"a1": saved}
    assert await snapshots.at("a1", 2**40, StateShape(3, "f")) == saved


async def test_times_come_back_in_utc(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot()])
    [found] = (await snapshots.latest(["a1"], ONE)).values()
    assert found.taken_at.utcoffset() == timedelta(0)


async def test_saving_nothing_does_nothing(snapshots: SnapshotStore) -> None:
    await snapshots.prepare()
    await snapshots.save([])
    assert await snapshots.count() == 0


async def test_the_newest_of_each_is_answered(snapshots: SnapshotStore) -> None:
    saved = [snapshot("a1", 5), snapshot("a1", 10), snapshot("a2", 7)]
    await snapshots.save(saved)
    assert await snapshots.latest(["a1", "a2", "absent"], ONE) == {"a1": saved[1], "a2": saved[2]}
    assert await snapshots.latest([], ONE) == {}


async def test_many_are_answered(snapshots: SnapshotStore) -> None:
    saved = {f"a{n}": snapshot(f"a{n}", n + 1) for n in range(250)}
    await snapshots.save(list(saved.values()))
    assert await snapshots.latest([*saved, "absent"], ONE) == saved
    assert await snapshots.count() == 250


async def test_only_one_shape_is_answered(snapshots: SnapshotStore) -> None:
    older, renamed, raised = (
        snapshot("a1", 5, ONE),
        snapshot("a1", 5, RENAMED),
        snapshot("a2", 4, RAISED),
    )
    await snapshots.save([older, renamed, raised])
    assert await snapshots.latest(["a1", "a2"], ONE) == {"a1": older}
    assert await snapshots.latest(["a1", "a2"], RENAMED) == {"a1": renamed}
    assert await snapshots.latest(["a1", "a2"], RAISED) == {"a2": raised}
    assert await snapshots.latest(["a1", "a2"], StateShape(3, "one")) == {}
    assert await snapshots.at("a1", 9, RENAMED) == renamed
    assert await snapshots.at("a1", 9, RAISED) is None


async def test_at_answers_the_newest_up_to_a_version(snapshots: SnapshotStore) -> None:
    saved = {version: snapshot("a1", version) for version in (5, 10, 15)}
    await snapshots.save([*saved.values(), snapshot("a2", 7)])
    found = {version: await snapshots.at("a1", version, ONE) for version in (4, 5, 9, 10, 14, 99)}
    assert found == {4: None, 5: saved[5], 9: saved[5], 10: saved[10], 14: saved[10], 99: saved[15]}


async def test_the_last_of_each_aggregate_are_kept(snapshots: SnapshotStore) -> None:
    assert KEPT == 3
    for version in (5, 10, 15, 20):
        await snapshots.save([snapshot("a1", version), snapshot("a2", version + 1)])
    await snapshots.save([snapshot("a1", 25)])
    assert await snapshots.at("a1", 14, ONE) is None
    assert await snapshots.at("a1", 15, ONE) == snapshot("a1", 15)
    assert await snapshots.at("a2", 10, ONE) is None
    assert await snapshots.at("a2", 11, ONE) == snapshot("a2", 11)
    assert await snapshots.count() == 2


async def test_the_last_of_one_bulk_are_kept(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", version) for version in (25, 5, 20, 10, 15)])
    assert await snapshots.at("a1", 14, ONE) is None
    assert await snapshots.at("a1", 15, ONE) == snapshot("a1", 15)


async def test_those_of_a_shape_are_kept_while_another_is_saved(snapshots: SnapshotStore) -> None:
    """New code saves its own, and the old code, restored, goes on with what it had."""
    await snapshots.save([snapshot("a1", version) for version in (5, 10, 15)])
    for version in (15, 16, 17, 18):
        await snapshots.save([snapshot("a1", version, RENAMED)])
    assert await snapshots.at("a1", 5, ONE) == snapshot("a1", 5)
    assert await snapshots.latest(["a1"], ONE) == {"a1": snapshot("a1", 15)}
    for version in (19, 20, 21, 22):
        await snapshots.save([snapshot("a1", version)])
    assert await snapshots.at("a1", 19, ONE) is None
    assert await snapshots.at("a1", 15, RENAMED) is None
    assert await snapshots.at("a1", 16, RENAMED) == snapshot("a1", 16, RENAMED)


async def test_those_of_the_shape_before_the_last_two_go(snapshots: SnapshotStore) -> None:
    for version, shape in enumerate((ONE, RENAMED, RAISED), 1):
        await snapshots.save([snapshot("a1", version, shape), snapshot("a2", version, shape)])
    assert await snapshots.latest(["a1", "a2"], ONE) == {}
    assert (await snapshots.latest(["a1"], RENAMED))["a1"].version == 2
    assert (await snapshots.latest(["a1"], RAISED))["a1"].version == 3


async def test_one_without_a_fingerprint_is_none_and_goes(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", 1, StateShape(1, ""))])
    assert await snapshots.latest(["a1"], ONE) == {}
    for version, shape in ((2, ONE), (3, RENAMED)):
        await snapshots.save([snapshot("a1", version, shape)])
    assert await snapshots.latest(["a1"], StateShape(1, "")) == {}


async def test_one_that_exists_stays_as_it_is(snapshots: SnapshotStore) -> None:
    first = snapshot("a1", 5, value="first")
    later = replace(snapshot("a1", 5, value="later"), taken_at=TIME + timedelta(hours=1))
    await snapshots.save([first])
    await snapshots.save([later, snapshot("a2", 1)])
    await snapshots.save([snapshot("a3", 1, n=1), snapshot("a3", 1, n=2)])
    found = await snapshots.latest(["a1", "a2", "a3"], ONE)
    assert found == {"a1": first, "a2": snapshot("a2", 1), "a3": snapshot("a3", 1, n=1)}


async def test_an_older_one_changes_no_answer(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", version) for version in (10, 15, 20)])
    await snapshots.save([snapshot("a1", 5)])
    assert await snapshots.latest(["a1"], ONE) == {"a1": snapshot("a1", 20)}
    assert await snapshots.at("a1", 10, ONE) == snapshot("a1", 10)
    assert await snapshots.at("a1", 9, ONE) is None


async def test_several_savers_keep_the_newest(
    snapshots: SnapshotStore, opening: OpenStores
) -> None:
    async def save(first: int) -> None:
        async with opening() as other:
            for version in range(first, 60, 4):
                await other.snapshots.save([snapshot("a1", version), snapshot("a2", version)])

    await asyncio.gather(*map(save, range(1, 5)))
    newest = {name: snapshot(name, 59) for name in ("a1", "a2")}
    assert await snapshots.latest(["a1", "a2"], ONE) == newest
    assert await snapshots.at("a1", 58, ONE) == snapshot("a1", 58)
    assert await snapshots.at("a1", 56, ONE) is None


async def test_count_counts_aggregates(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", 1), snapshot("a1", 2), snapshot("a1", 2, RAISED)])
    assert await snapshots.count() == 1
    await snapshots.save([snapshot("a2", 1)])
    assert await snapshots.count() == 2


async def test_shapes_counts_snapshots_by_shape(snapshots: SnapshotStore) -> None:
    assert await snapshots.shapes() == []
    await snapshots.save([snapshot("a2", 1), snapshot("a1", 1), snapshot("a1", 2)])
    await snapshots.save([snapshot("a2", 2, RAISED), snapshot("a3", 1, StateShape(1, ""))])
    assert await snapshots.shapes() == [
        ShapeCount(StateShape(1, ""), 1, "a3"),
        ShapeCount(ONE, 3, "a1"),
        ShapeCount(RAISED, 1, "a2"),
    ]
