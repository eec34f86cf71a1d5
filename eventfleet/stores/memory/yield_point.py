"""Where a twin lets others run: a scheduler may interleave, or end its caller, there."""

from collections.abc import Awaitable, Callable

Checkpoint = Callable[[], Awaitable[None]]


async def go_on() -> None:
    """The checkpoint that does nothing."""
