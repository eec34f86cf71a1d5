"""Medians of calls that are made by turns."""

import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

Call = Callable[[int], Awaitable[Any]]


async def seconds_of(call: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await call
    return time.perf_counter() - started


async def in_turns(calls: tuple[Call, Call], repeats: int) -> tuple[float, float]:
    """Return the median milliseconds of two calls, made by turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            taken.append(await seconds_of(call(number)))
    return 1000 * median(times[0]), 1000 * median(times[1])
