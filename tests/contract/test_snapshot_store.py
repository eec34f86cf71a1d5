"""The contract of the snapshot store, sentence by sentence, over every implementation."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from eventfleet.stores.contracts import Snapshot, SnapshotStore
from tests.contract.conftest import OpenStores
from tests.contract.samples import KEPT, PAYLOADS, TIME


def snapshot(
    aggregate_id: str = "a1", version: int = 1, state_version: int = 1, **state: Any
) -> Snapshot:
    state = state or {"version": version}
    return Snapshot(aggregate_id, version, state, state_version, TIME)


@pytest.mark.parametrize("state", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_state_comes_back_as_it_was(
    snapshots: SnapshotStore, state: dict[str, Any]
) -> None:
    saved = Snapshot("a1", 2**40, state, 3, TIME)
    await snapshots.save([saved])
    assert await snapshots.latest(["a1"], 3) == {"a1": saved}
    assert await snapshots.at("a1", 2**40, 3) == saved


async def test_times_come_back_in_utc(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot()])
    [found] = (await snapshots.latest(["a1"], 1)).values()
    assert found.taken_at.utcoffset() == timedelta(0)


async def test_saving_nothing_does_nothing(snapshots: SnapshotStore) -> None:
    await snapshots.prepare()
    await snapshots.save([])
    assert await snapshots.count() == 0


async def test_the_newest_of_each_is_answered(snapshots: SnapshotStore) -> None:
    saved = [snapshot("a1", 5), snapshot("a1", 10), snapshot("a2", 7)]
    await snapshots.save(saved)
    assert await snapshots.latest(["a1", "a2", "absent"], 1) == {"a1": saved[1], "a2": saved[2]}
    assert await snapshots.latest([], 1) == {}


async def test_many_are_answered(snapshots: SnapshotStore) -> None:
    saved = {f"a{n}": snapshot(f"a{n}", n + 1) for n in range(250)}
    await snapshots.save(list(saved.values()))
    assert await snapshots.latest([*saved, "absent"], 1) == saved
    assert await snapshots.count() == 250


async def test_only_one_state_version_is_answered(snapshots: SnapshotStore) -> None:
    older, newer = snapshot("a1", 5, 1), snapshot("a1", 4, 2)
    await snapshots.save([older, newer])
    assert await snapshots.latest(["a1"], 1) == {"a1": older}
    assert await snapshots.latest(["a1"], 2) == {"a1": newer}
    assert await snapshots.latest(["a1"], 3) == {}
    assert await snapshots.at("a1", 9, 2) == newer
    assert await snapshots.at("a1", 9, 3) is None


async def test_at_answers_the_newest_up_to_a_version(snapshots: SnapshotStore) -> None:
    saved = {version: snapshot("a1", version) for version in (5, 10, 15)}
    await snapshots.save([*saved.values(), snapshot("a2", 7)])
    found = {version: await snapshots.at("a1", version, 1) for version in (4, 5, 9, 10, 14, 99)}
    assert found == {4: None, 5: saved[5], 9: saved[5], 10: saved[10], 14: saved[10], 99: saved[15]}


async def test_the_last_of_each_aggregate_are_kept(snapshots: SnapshotStore) -> None:
    assert KEPT == 3
    for version in (5, 10, 15, 20):
        await snapshots.save([snapshot("a1", version), snapshot("a2", version + 1)])
    await snapshots.save([snapshot("a1", 25)])
    assert await snapshots.at("a1", 14, 1) is None
    assert await snapshots.at("a1", 15, 1) == snapshot("a1", 15)
    assert await snapshots.at("a2", 10, 1) is None
    assert await snapshots.at("a2", 11, 1) == snapshot("a2", 11)
    assert await snapshots.count() == 2


async def test_the_last_of_one_bulk_are_kept(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", version) for version in (25, 5, 20, 10, 15)])
    assert await snapshots.at("a1", 14, 1) is None
    assert await snapshots.at("a1", 15, 1) == snapshot("a1", 15)


async def test_all_state_versions_count_together(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", version, 1) for version in (5, 10, 15)])
    await snapshots.save([snapshot("a1", 15, 2)])
    await snapshots.save([snapshot("a1", 20, 2)])
    assert await snapshots.latest(["a1"], 1) == {"a1": snapshot("a1", 15, 1)}
    assert await snapshots.at("a1", 14, 1) is None
    assert await snapshots.at("a1", 19, 2) == snapshot("a1", 15, 2)


async def test_one_that_exists_stays_as_it_is(snapshots: SnapshotStore) -> None:
    first = snapshot("a1", 5, value="first")
    later = Snapshot("a1", 5, {"value": "later"}, 1, TIME + timedelta(hours=1))
    await snapshots.save([first])
    await snapshots.save([later, snapshot("a2", 1)])
    await snapshots.save([snapshot("a3", 1, n=1), snapshot("a3", 1, n=2)])
    found = await snapshots.latest(["a1", "a2", "a3"], 1)
    assert found == {"a1": first, "a2": snapshot("a2", 1), "a3": snapshot("a3", 1, n=1)}


@pytest.mark.parametrize("state_version", [1, 2])
async def test_an_older_one_changes_no_answer(snapshots: SnapshotStore, state_version: int) -> None:
    await snapshots.save([snapshot("a1", version) for version in (10, 15, 20)])
    before = [await snapshots.latest(["a1"], v) for v in (1, 2)]
    await snapshots.save([snapshot("a1", 5, state_version)])
    assert [await snapshots.latest(["a1"], v) for v in (1, 2)] == before
    assert await snapshots.at("a1", 10, 1) == snapshot("a1", 10)


async def test_several_savers_keep_the_newest(
    snapshots: SnapshotStore, opening: OpenStores
) -> None:
    async def save(first: int) -> None:
        async with opening() as other:
            for version in range(first, 60, 4):
                await other.snapshots.save([snapshot("a1", version), snapshot("a2", version)])

    await asyncio.gather(*map(save, range(1, 5)))
    newest = {name: snapshot(name, 59) for name in ("a1", "a2")}
    assert await snapshots.latest(["a1", "a2"], 1) == newest
    assert await snapshots.at("a1", 58, 1) == snapshot("a1", 58)
    assert await snapshots.at("a1", 56, 1) is None


async def test_count_counts_aggregates(snapshots: SnapshotStore) -> None:
    await snapshots.save([snapshot("a1", 1), snapshot("a1", 2), snapshot("a1", 2, 2)])
    assert await snapshots.count() == 1
    await snapshots.save([snapshot("a2", 1)])
    assert await snapshots.count() == 2
