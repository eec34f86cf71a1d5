"""The heartbeat of a lag guard: by itself, sooner when awaited, and through faults."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.service import lag_guard_task
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.errors import ServerUnavailable


class Guard:
    """Counts its beats; the first ones may fail."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.updates, self.failures, self.update_seconds = 0, failures, 1.0
        self.want_update: Callable[[], None] = lambda: None
        self.error = error or ServerUnavailable("away")

    async def update(self) -> None:
        self.updates += 1
        if self.updates <= self.failures:
            raise self.error


async def until_beaten(guard: Guard, times: int) -> None:
    async with asyncio.timeout(20):
        while True:
            if guard.updates >= times:
                return
            await asyncio.sleep(0.01)


def beaten(guard: Guard) -> AbstractAsyncContextManager[BackgroundTask]:
    return lag_guard_task.running_lag_guard(cast(LagGuard, guard), "orders")


async def test_it_beats_at_once_and_again_for_the_length_of_the_block() -> None:
    guard = Guard()
    async with beaten(guard):
        await until_beaten(guard, 3)
    updates = guard.updates
    await asyncio.sleep(2 * lag_guard_task.LEAST_PAUSE_SECONDS)
    assert guard.updates == updates


async def test_it_beats_sooner_when_somebody_waits() -> None:
    guard = Guard()
    guard.update_seconds = 10**9
    async with beaten(guard):
        await until_beaten(guard, 1)
        guard.want_update()
        await until_beaten(guard, 2)


@pytest.mark.parametrize("error", [ServerUnavailable("away"), LookupError("a bug")])
async def test_a_beat_that_fails_in_any_way_is_told_once_and_does_not_end_it(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(failures=2, error=error)
    with caplog.at_level(logging.INFO):
        async with beaten(guard) as task:
            await until_beaten(guard, 2)
            assert task.problem == f"the lag guard of orders: {type(error).__name__}: {error}"
            assert task.essential
            await until_beaten(guard, 3)
            assert task.problem is None
    assert [record.getMessage() for record in caplog.records] == [
        f"the lag guard of orders: {type(error).__name__}: {error}; it is tried again",
        "the lag guard of orders is well again",
    ]


class SlowGuard(Guard):
    """Its first beat takes a while."""

    finished = 0

    async def update(self) -> None:
        await super().update()
        await asyncio.sleep(0.2)
        self.finished += 1


async def test_a_beat_under_way_is_let_finish() -> None:
    guard = SlowGuard()
    async with beaten(guard):
        await until_beaten(guard, 1)
    assert (guard.updates, guard.finished) == (1, 1)


class Deaf(Guard):
    """Its first beat answers a cancellation as a server that is away would."""

    async def update(self) -> None:
        await super().update()
        if self.updates == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ServerUnavailable("cancelled") from None


async def test_it_ends_also_when_a_beat_loses_the_cancellation() -> None:
    async def whole() -> None:
        guard = Deaf()
        async with beaten(guard):
            await until_beaten(guard, 1)

    done, hanging = await asyncio.wait({asyncio.create_task(whole())}, timeout=10)
    for task in hanging:
        task.cancel()
    assert done
