"""A lone caller of accounts whose commands are decided on the latest state, one after the other."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from statistics import median
from typing import Any

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch

WARM_ACCOUNTS = 20
COLD_EVENTS = 10
AMOUNT = 7

Deposit = Callable[[str], Awaitable[None]]
"""Opens an account where it is new, otherwise deposits; raises unless it is accepted."""

OpenCaller = Callable[[], AbstractAsyncContextManager[Deposit]]
"""Opens a caller that has nothing in memory."""


def count_cold(task: ContenderTask) -> int:
    return task.records // 5


async def measure_deposits(
    task: ContenderTask, open_caller: OpenCaller, settings: dict[str, Any]
) -> Result:
    """Warm: into accounts in memory. Cold: into accounts that a former caller has written."""
    cold = [f"cold-{number}" for number in range(count_cold(task))]
    warm = [f"warm-{number % WARM_ACCOUNTS}" for number in range(task.records)]
    clock = Stopwatch()
    async with open_caller() as deposit:
        for account in [*cold * COLD_EVENTS, *warm[: 2 * WARM_ACCOUNTS]]:
            await deposit(account)
        clock.start()
        times = [times async for times in _timed(deposit, warm)]
        clock.stop()
    async with open_caller() as deposit:
        await deposit("first")
        cold_times = [times async for times in _timed(deposit, cold)]
    measures = {"warm_p50": median(times), "cold_p50": median(cold_times)}
    return Result(task.records, clock.seconds, clock.cpu, 0, settings, measures)


async def _timed(deposit: Deposit, accounts: list[str]) -> AsyncIterator[float]:
    for account in accounts:
        started = time.perf_counter()
        await deposit(account)
        yield time.perf_counter() - started
