"""Contract of the outbox: the events that were stored, and are not yet where they must go."""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from eventfleet.topics.event import EventKey, EventRecord


class BusPlace(NamedTuple):
    """A place in what a bus holds: `offset` orders what one `incarnation` of its data has taken."""

    incarnation: str
    offset: int


class BusNote(NamedTuple):
    """The incarnation of a bus that a publisher has published to last, and the groups there."""

    incarnation: str
    groups: tuple[str, ...] = ()


class Outbox(Protocol):
    """The events of one domain that are to be published, or to be projected only.

    An event is pending from the write that stores it on, whatever becomes of its writer. Then it is
    parked, published at a place of a bus, or settled. Each write below is conditional on the state
    that it begins from, so that one which comes late changes nothing. Who works through the events
    holds a lease.
    """

    async def prepare(self) -> None:
        """Create and verify the indexes. Misconfigured names one that is too weak."""

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        """Return pending events, those to publish or the others: of the aggregates whose events are
        oldest, each in version order.

        Of an aggregate none is left out below one that is returned.
        """

    async def settle(self, keys: Collection[EventKey], place: BusPlace | None = None) -> None:
        """Settle pending events; with a place they are published there until confirmed."""

    # Parked

    async def park(self, keys: Collection[EventKey]) -> None:
        """Park pending events."""

    async def park_pending(self, aggregate_id: str) -> None:
        """Park all pending events of an aggregate."""

    async def parked_aggregates(self, among: Collection[str] | None = None) -> set[str]:
        """Return the aggregates that have parked events, all or those among some."""

    async def parked(self, aggregate_id: str, limit: int) -> list[EventRecord]:
        """Return an aggregate's first parked events, in version order."""

    async def settle_parked(self, key: EventKey, place: BusPlace | None = None) -> None:
        """Settle a parked event, as `settle` does a pending one."""

    # Published, and not confirmed yet

    async def confirm(self, place: BusPlace) -> None:
        """Settle the events that were published in this incarnation, up to this place."""

    async def publish_again(self, incarnation: str) -> bool:
        """Make those pending that were published in another incarnation; False: there are none."""

    async def bus_note(self, name: str) -> BusNote | None:
        """Return what was noted of the bus of this name."""

    async def note_bus(self, name: str, note: BusNote) -> None:
        """Note the incarnation and the groups of the bus of this name."""

    # Leases

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or prolong a lease; False: another owner has it."""

    async def release_lease(self, name: str, owner: str) -> None:
        """Give up a lease, if this owner has it."""
