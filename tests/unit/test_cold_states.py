"""States that no cache has: snapshot and events are read side by side."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventfleet.deciders.outcomes import Accepted, Repeated
from eventfleet.states import latest_states
from eventfleet.states.latest_states import LatestStateQuery
from tests.unit.sync_domain import SyncFixture


@pytest.fixture
async def desk() -> AsyncIterator[SyncFixture]:
    async with SyncFixture(cached=0).open() as desk:
        yield desk


async def put_in(desk: SyncFixture, *cents: int) -> None:
    for each in cents:
        assert isinstance(await desk.send("PutIn", cents=each), Accepted)


@pytest.mark.parametrize("history", [2, 100])
async def test_it_is_the_fold_of_snapshot_and_events_whatever_of_them_is_read(
    desk: SyncFixture, monkeypatch: pytest.MonkeyPatch, history: int
) -> None:
    monkeypatch.setattr(latest_states, "SHORT_HISTORY_EVENTS", history)
    await put_in(desk, 1, 2)
    await desk.saved(2)
    desk.saver.save_later = lambda states: None  # type: ignore[method-assign]
    await put_in(desk, 4, 8)
    (result,) = await desk.querier.latest_states.build_all([LatestStateQuery("a", "no event")])
    assert isinstance(result, latest_states.LatestState)
    assert (result.live.state.cents, result.live.version) == (15, 4)


async def test_a_short_history_takes_one_read_of_each(desk: SyncFixture) -> None:
    await put_in(desk, 1, 2)
    desk.store.calls.clear()
    desk.snapshots.calls.clear()
    await desk.querier.latest_states.build_all([LatestStateQuery("a", "no event")])
    calls = [*desk.store.calls, *desk.snapshots.calls]
    assert sorted(name for name, _ in calls) == ["latest", "tails"]


async def test_a_command_below_a_snapshot_that_was_saved_meanwhile_is_a_repeat(
    desk: SyncFixture,
) -> None:
    await put_in(desk, 9)
    tails, latest, saved = desk.store.tails, desk.snapshots.latest, asyncio.Event()

    async def early(*about: Any) -> Any:
        """Read before the command was stored, and its snapshot saved, by another process."""
        desk.store.tails, desk.snapshots.latest = tails, latest
        found = await tails(*about)
        assert isinstance(await desk.send("TakeOut", "c1", cents=8), Accepted)
        await desk.saved(3)
        saved.set()
        return found

    async def late(*about: Any) -> Any:
        await saved.wait()
        return await latest(*about)

    desk.store.tails, desk.snapshots.latest = early, late  # type: ignore[attr-defined]
    assert isinstance(await desk.send("TakeOut", "c1", cents=8), Repeated)
