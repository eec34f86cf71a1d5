"""Timeout: it ends a block with TimeoutError, and leaves the cancelling by others alone."""

import asyncio

import pytest

from eventfleet.stores.timeout import Timeout


async def test_what_takes_longer_ends_in_a_timeout_error() -> None:
    with pytest.raises(TimeoutError), Timeout(0.01):
        await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()
    await asyncio.sleep(0)


async def test_what_is_done_in_time_is_left_alone() -> None:
    with Timeout(0.01):
        pass
    await asyncio.sleep(0.03)


async def test_more_time_can_be_given() -> None:
    with Timeout(0.01) as bound:
        bound.extend(60)
        await asyncio.sleep(0.03)


async def test_what_another_cancels_is_cancelled() -> None:
    async def work() -> None:
        with Timeout(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelling_at_the_same_time_as_the_end_wins() -> None:
    async def work() -> None:
        with Timeout(0):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_passes_through() -> None:
    with pytest.raises(KeyError), Timeout(60):
        raise KeyError
