"""Runs a long-lived process, and ends it whatever its threads wait for."""

import threading
from collections.abc import Coroutine
from typing import Any

LINGER_SECONDS = 2.0


def run_process(main: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, as asyncio.run does; threads that are left then do not keep the process.

    They wait for servers that are away, and would only tell at the end of the interpreter that
    their event loops are closed.
    """
    from eventfleet.runtime.event_loop import run
    from eventfleet.runtime.process_stop import end_process, end_within

    before = {*threading.enumerate()}
    try:
        run(main)
    except BaseException:
        if {*threading.enumerate()} - before:
            end_within(LINGER_SECONDS, 1)
        raise
    if {*threading.enumerate()} - before:
        end_process(0)
