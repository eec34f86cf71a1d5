"""Decider: the contract that every way of deciding commands keeps."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from eventfleet.deciders.outcomes import Outcome

Answer = Callable[[int, Outcome], None]
"""Takes a command's index within its batch, and its outcome."""

Permit = Callable[[], Awaitable[None]]
"""Awaited between a decision and its write; raises Fenced when another decides these commands by
now, and may have rejected what would be written."""


class Decider(Protocol):
    """MarkerDecider and DirectDecider take ProposedEvents, the Manager takes StateCommands."""

    async def decide(
        self,
        commands: Sequence[Any],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        """Answer each command once, by its index, as soon as it is decided."""
