"""ParkedAggregates: what a domain's roles park, for operators: listings, redrives and discards."""

from typing import NamedTuple

from eventfleet.stores.contracts import Clock, DeadLetterStore
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.cursors import decode_cursor, encode_cursor
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.parked import Discard, ParkedAggregate

LISTING = "dead letters"
PAGE = 500
MAX_WHY_CHARS = 1_000


class NotParked(EventfleetError):
    """The role does not park this aggregate, or not at this version any more."""


def check_redrive(role: str, aggregate_id: str, reason: str, everything: bool) -> None:
    """Raise InvalidRecord for a redrive without conditions, unless it says that it is for all."""
    if everything == bool(role or aggregate_id or reason):
        conditions = "role, aggregate_id, reason"
        raise InvalidRecord(
            "all",
            f"is for all that is parked, and takes no {conditions}"
            if everything
            else f"is missing: say which by {conditions}, or that it is for all",
        )


class ParkedPage(NamedTuple):
    """Parked aggregates by role and id; `next` is the cursor of the next page, None on the last."""

    items: list[ParkedAggregate]
    next: str | None


class ParkedAggregates:
    """The parked aggregates of one domain. The owners of their partitions do what is requested
    here, within seconds, if they run."""

    def __init__(self, domain: str, store: DeadLetterStore, clock: Clock) -> None:
        self._domain, self._store, self._clock = domain, store, clock

    async def page(
        self,
        role: str = "",
        aggregate_id: str = "",
        reason: str = "",
        *,
        limit: int = 100,
        cursor: str = "",
    ) -> ParkedPage:
        """Find parked aggregates; `reason` is the beginning of one. InvalidCursor."""
        after = decode_cursor(LISTING, cursor, tuple[str, str]) if cursor else ("", "")
        query = ParkedQuery(role, aggregate_id, reason, after)
        found = await self._store.find(query, limit)
        last = found[-1] if len(found) == limit else None
        return ParkedPage(
            found, encode_cursor(LISTING, (last.role, last.aggregate_id)) if last else None
        )

    async def find(self, role: str, aggregate_id: str) -> ParkedAggregate:
        """Return what a role parks of an aggregate. NotParked."""
        known = role and aggregate_id  # a query takes an empty one for any
        found = await self._store.find(ParkedQuery(role, aggregate_id), 1) if known else []
        if not found:
            raise NotParked(f"{role} of {self._domain} parks no aggregate {aggregate_id!r}")
        return found[0]

    async def redrive(
        self,
        role: str = "",
        aggregate_id: str = "",
        reason: str = "",
        *,
        everything: bool = False,
    ) -> int:
        """Request a redrive of all that are found by these, and return how many there are.

        InvalidRecord: no condition is given, and not `everything` either.
        """
        check_redrive(role, aggregate_id, reason, everything)
        query, count = ParkedQuery(role, aggregate_id, reason), 0
        while page := await self._store.find(query, PAGE):
            count += await self._store.request_redrives(page)
            query = query._replace(after=(page[-1].role, page[-1].aggregate_id))
        return count

    async def discard(
        self, role: str, aggregate_id: str, version: int, *, why: str, by: str
    ) -> ParkedAggregate:
        """Request that a role passes over the event that it parks an aggregate at.

        Returns what is parked. NotParked: it is not, or at another version. InvalidRecord: nothing
        says why.
        """
        if not why.strip():
            raise InvalidRecord("why", "is empty: say why the event is to be passed over")
        if len(why) > MAX_WHY_CHARS:
            raise InvalidRecord("why", f"has {len(why)} characters; the limit is {MAX_WHY_CHARS}")
        parked = await self.find(role, aggregate_id)
        if not parked.event_id:
            raise InvalidRecord("version", f"has no event to discard: {parked.reason}")
        discard = Discard(why, by, self._clock.now())
        if parked.first != version or not await self._store.request(parked, discard):
            raise NotParked(
                f"{role} of {self._domain} parks {aggregate_id!r} at version {parked.first}, not "
                f"at {version}: look at it again"
            )
        return parked
