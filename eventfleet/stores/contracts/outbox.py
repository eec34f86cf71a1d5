"""Contract of the outbox: the events that were stored, and are not yet where they must go."""

from collections.abc import Collection
from typing import Protocol

from eventfleet.topics.event import EventKey, EventRecord


class Outbox(Protocol):
    """The pending events of one domain: some to publish, others to project only.

    An event becomes pending in the write that stores it, and stays so until it is settled, whatever
    becomes of its writer. Who works through them holds a lease.
    """

    async def prepare(self) -> None:
        """Create and verify the index. Misconfigured names one that is too weak."""

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        """Return pending events, those to publish or the others: of the aggregates whose events are
        oldest, each in version order.

        Of an aggregate none is left out below one that is returned.
        """

    async def settle(self, keys: Collection[EventKey]) -> None:
        """Take events from those that are pending; those that are not are left as they are."""

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or prolong a lease; False: another owner has it."""

    async def release_lease(self, name: str, owner: str) -> None:
        """Give up a lease, if this owner has it."""
