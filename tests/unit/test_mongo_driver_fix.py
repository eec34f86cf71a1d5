"""A cancelled call leaves the MongoDB driver usable, whenever the cancellation comes."""

import asyncio
from contextlib import suppress
from types import ModuleType

import pytest
from pymongo.asynchronous import pool, topology
from pymongo.lock import _async_create_condition, _async_create_lock

from eventfleet.stores.mongo import client

assert client


@pytest.mark.parametrize("module", [topology, pool])
async def test_a_wait_that_is_cancelled_as_it_ends_gives_back_the_lock_once(
    module: ModuleType,
) -> None:
    lock = _async_create_lock()
    condition = _async_create_condition(lock)

    async def wait() -> None:
        async with lock:
            await module._async_cond_wait(condition, 0.001)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await lock.acquire()
    await asyncio.sleep(0.01)  # the wait is over, and its task wants the lock back
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert not waiting.done()  # the lock is still ours

    lock.release()
    with suppress(asyncio.CancelledError):
        await waiting
    assert not lock.locked()


@pytest.mark.parametrize("module", [topology, pool])
async def test_a_wait_ends_by_a_notice_or_by_its_time(module: ModuleType) -> None:
    condition = _async_create_condition(_async_create_lock())

    async def notify() -> None:
        async with condition:
            condition.notify_all()

    async with condition:
        assert not await module._async_cond_wait(condition, 0.001)
        notifying = asyncio.create_task(notify())
        assert await module._async_cond_wait(condition, 10)
        assert condition.locked()
    await notifying
