"""Decider: the contract that every way of deciding commands keeps."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from eventfleet.deciders.outcomes import Outcome
from eventfleet.stores.contracts import MarkOwner

Answer = Callable[[int, Outcome], None]
"""Takes a command's index within its batch, and its outcome."""


@dataclass(eq=False)
class Permit:
    """Lets the owner of a partition write what it decides.

    Called between a decision and its write; raises Fenced when another decides these commands by
    now, and may have rejected what would be written. Where marks name their owner, it is called
    once that one is noted beside the markers, and before the first mark: `marks_as` is set then.
    """

    partition: int
    check: Callable[[], Awaitable[None]]
    marks_as: MarkOwner | None = None

    async def __call__(self) -> None:
        await self.check()


class Decider(Protocol):
    """MarkerDecider and DirectDecider take ProposedEvents, the Manager takes StateCommands."""

    async def decide(
        self,
        commands: Sequence[Any],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        """Answer each command once, by its index, as soon as it is decided.

        An owner of a partition calls it with a `permit`, also before it answers a chunk that leaves
        no command to decide: by then no earlier owner may write any more.
        """
