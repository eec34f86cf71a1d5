"""A store that is lost at some moment of a history, and restored, is as it was.

RESTORES is the number of histories, of each mode and each kind of loss.
"""

import os
from random import Random

import pytest

from eventfleet.roles.restore import restore
from tests.restores.world import ROLES, Stores, World

HISTORIES = int(os.environ.get("RESTORES", "4"))
STEPS = 40


async def played(seed: int, synchronous: bool, steps: int, copy_at: int) -> tuple[World, Stores]:
    """Play a history up to a moment; returns the world, and a copy of its store."""
    world, copy = World(seed, synchronous=synchronous), Stores.empty()
    for number in range(steps):
        if number == copy_at:
            copy = world.copy()
        await world.step()
    return world, copy


@pytest.mark.parametrize("copied", [False, True], ids=["lost", "older copy"])
@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_a_restored_store_is_as_it_was(seed: int, synchronous: bool, copied: bool) -> None:
    random = Random(seed)
    steps = random.randint(5, STEPS)
    copy_at = random.randrange(steps) if copied else -1
    twin, _ = await played(seed, synchronous, steps, copy_at)
    world, copy = await played(seed, synchronous, steps, copy_at)
    assert await world.kept() == await twin.kept()
    world.stores = copy
    report = await restore(world.context)
    assert (report.missing, report.doubts) == ([], [])
    assert await world.kept() == await twin.kept()
    assert await world.begun() >= await twin.begun()
    await twin.context.rebuild_views()  # as a discard in snapshot is for views built from then on
    for each in (world, twin):
        await each.settle()
    assert await world.seen() == await twin.seen()
    assert await world.violations() == await twin.violations() == []
    for each in (world, twin):
        for key in "abc":
            await each.send(key)
        each.code.mended = dict.fromkeys(ROLES, each.accepted)
        await each._redrive()
        await each.settle()
    assert await world.seen() == await twin.seen()
    assert await world.violations() == await twin.violations() == []
