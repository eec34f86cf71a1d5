"""Where a twin lets others run: a scheduler may interleave, or end its caller, there."""

from collections.abc import Awaitable, Callable

YieldPoint = Callable[[], Awaitable[None]]


async def no_yield() -> None:
    """The checkpoint that does nothing."""
