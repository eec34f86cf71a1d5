"""Runs parts side by side."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

Part = Coroutine[Any, Any, None]


async def run_all(parts: Sequence[Part]) -> None:
    """Run all to their ends; then raise the first error. Cancelled: once all have ended."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if result:
            raise result
