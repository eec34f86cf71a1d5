"""A lone caller: the first command of each order and then the second, one after the other."""

import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch

WARM_UP_ORDERS = 20
PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}
PAY = {"amount": 1999}

SendCommand = Callable[[str, str, dict[str, Any]], Awaitable[None]]
"""Sends a command's name and payload to an order; raises unless it is accepted."""


async def measure_sends(task: ContenderTask, send: SendCommand, settings: dict[str, str]) -> Result:
    first: list[float] = []
    later: list[float] = []
    clock = Stopwatch()
    for number in range(WARM_UP_ORDERS + task.records // 2):
        if number == WARM_UP_ORDERS:
            clock.start()
            first, later = [], []
        for name, data, times in (("Place", PLACE, first), ("Pay", PAY, later)):
            started = time.perf_counter()
            await send(f"order-{number}", name, data)
            times.append(time.perf_counter() - started)
    clock.stop()
    measures = {"first_p50": median(first), "later_p50": median(later)}
    return Result(task.records, clock.seconds, clock.cpu, 0, settings, measures)
