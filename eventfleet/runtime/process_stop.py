"""The stop of a process, by SIGTERM or Ctrl-C: it waits for nothing that can't come."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

STOP_SECONDS = 15.0
"""After this a process that was asked to stop ends, whatever it waits for: what is not committed is
done by another one."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal(asyncio.Event):
    """Set by a signal. Until the work heeds it by itself, the signal cancels the work."""

    heeded = False


@asynccontextmanager
async def stop_signals(limit: float | None = None) -> AsyncIterator[StopSignal]:
    """An event that SIGTERM or SIGINT sets; `limit`: the process ends so many seconds later."""
    stop = StopSignal()
    loop = asyncio.get_running_loop()

    def set_stop() -> None:
        if limit is not None and not stop.is_set():
            end_within(limit)
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, set_stop)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def run_until_stopped(work: Callable[[StopSignal], Coroutine[Any, Any, None]]) -> None:
    """Run work until it ends, by itself or by a signal; then the process ends within STOP_SECONDS.

    So a start may be stopped while it waits for servers.
    """
    async with stop_signals(STOP_SECONDS) as stop:
        working = asyncio.create_task(work(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.heeded:
                working.cancel()
            await asyncio.wait({working})
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.wait({working})
    if not (working.cancelled() and stop.is_set()):
        working.result()


def end_within(seconds: float, status: int = 0) -> None:
    """End the process after some seconds, unless it has ended: a thread that waits for a server
    would keep it alive."""
    timer = threading.Timer(seconds, end_process, [status])
    timer.daemon = True
    timer.start()


def end_process(status: int) -> None:
    """End the process at once, without waiting for its threads."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)
