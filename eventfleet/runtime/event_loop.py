"""How a process that works for long runs: on uvloop, where there is one, and seldom collecting."""

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

COLLECTIONS = (50_000, 20, 20)
"""Chunks and caches live long and hold no cycles: at the interpreter's own thresholds, looking
through them takes a quarter of the processor time of a worker that only passes records on."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run; the loops of further threads, such as Faust's, are of the same kind."""
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
    return asyncio.run(main)
