"""Runs a long-lived process: on uvloop where it is installed, with rare garbage collections."""

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

GC_THRESHOLDS = (50_000, 20, 20)
"""Chunks and caches live long and hold no cycles: at the interpreter's default thresholds,
traversing them takes a quarter of the processor time of a worker that only passes records on."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run as asyncio.run does; threads that make loops, such as Faust's, get uvloop too."""
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return asyncio.run(main)
