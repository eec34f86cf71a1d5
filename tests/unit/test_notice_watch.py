"""Waits for append that its notices end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventfleet.roles.notices import notices_of, reply_to
from eventfleet.service import stage_waiter
from eventfleet.service.notice_watch import NoticeWatch
from eventfleet.service.stage_waiter import StageWaiters
from eventfleet.stores.contracts import Stage
from eventfleet.stores.memory.channels import MemoryNotices
from tests.contract.samples import event

LONG_SECONDS = 60.0


@pytest.fixture
def notices() -> MemoryNotices:
    return MemoryNotices()


@pytest.fixture
async def waiters(notices: MemoryNotices) -> AsyncIterator[StageWaiters]:
    async with StageWaiters(notices).running() as running:
        yield running


async def test_a_notice_ends_the_wait(notices: MemoryNotices, waiters: StageWaiters) -> None:
    watch = NoticeWatch(waiters)
    address = await watch.expect("e1")
    assert address == reply_to(waiters.channel, "e1")
    waiting = asyncio.create_task(watch.wait(LONG_SECONDS))
    await asyncio.sleep(0)
    await notices.publish(notices_of(Stage.APPENDED, [event(reply_to=address)]))
    async with asyncio.timeout(10):
        await waiting
    assert watch.has_noticed("e1")
    assert not watch.has_noticed("e2")


async def test_a_wait_without_a_notice_ends_by_itself_or_is_ended(waiters: StageWaiters) -> None:
    watch = NoticeWatch(waiters)
    await watch.wait(0.01)
    watch.wake()
    async with asyncio.timeout(10):
        await watch.wait(LONG_SECONDS)
    await watch.wait(0.01)


async def test_what_is_forgotten_takes_no_room(
    waiters: StageWaiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_waiter, "MAX_WAITERS", 1)
    watch = NoticeWatch(waiters)
    assert await watch.expect("e1")
    assert await watch.expect("e2") is None
    watch.note("e1")
    watch.forget(["e1", "e2"])
    assert not watch.has_noticed("e1")
    assert await watch.expect("e2")
