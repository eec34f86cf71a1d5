"""Points where an in-memory implementation lets others run.

A scheduler may interleave other calls there, or end the caller.
"""

from collections.abc import Awaitable, Callable

YieldPoint = Callable[[], Awaitable[None]]


async def no_yield() -> None:
    """Yield point that lets nobody run."""
