"""SubscriberLetters: what the subscribers of a bus could not handle, for operators."""

from collections.abc import Iterator
from itertools import dropwhile, islice

from eventfleet.buses.bus import EventBus, KeptDelivery
from eventfleet.service.parked_aggregates import NotParked, ParkedPage, check_redrive
from eventfleet.stores.cursors import decode_cursor, encode_cursor
from eventfleet.topics.parked import ParkedAggregate

LISTING = "letters of subscribers"
MAX_LETTERS = 10_000
UNREADABLE = "unreadable"


class SubscriberLetters:
    """The dead letters of a bus, as ParkedAggregates has those of a domain.

    Each is an event of its own: nothing waits behind it. The group stands for the role. Of more
    than MAX_LETTERS the oldest are seen.
    """

    def __init__(self, channel: str, bus: EventBus) -> None:
        self._channel, self._bus = channel, bus

    async def page(
        self,
        role: str = "",
        aggregate_id: str = "",
        reason: str = "",
        *,
        limit: int = 100,
        cursor: str = "",
    ) -> ParkedPage:
        """Find letters; `reason` is the beginning of one. InvalidCursor."""
        found: Iterator[KeptDelivery] = iter(await self._find(role, aggregate_id, reason))
        if cursor:
            last = decode_cursor(LISTING, cursor, str)
            found = islice(dropwhile(lambda kept: kept.id != last, found), 1, None)
        page = [*islice(found, limit + 1)]
        more = encode_cursor(LISTING, page[limit - 1].id) if len(page) > limit else None
        return ParkedPage([*map(_to_parked, page[:limit])], more)

    async def find(self, role: str, aggregate_id: str) -> ParkedAggregate:
        """Return a group's first letter of an aggregate. NotParked."""
        return _to_parked(await self._first(role, aggregate_id))

    async def redrive(
        self,
        role: str = "",
        aggregate_id: str = "",
        reason: str = "",
        *,
        everything: bool = False,
    ) -> int:
        """Give all that are found to their groups again, and return how many there are.

        InvalidRecord: no condition is given, and not `everything` either.
        """
        check_redrive(role, aggregate_id, reason, everything)
        found = await self._find(role, aggregate_id, reason)
        for kept in found:
            await self._bus.redeliver(kept)
        return len(found)

    async def discard(
        self, role: str, aggregate_id: str, version: int, *, why: str, by: str
    ) -> ParkedAggregate:
        """Take a letter from the bus, which keeps no record of it. NotParked."""
        kept = await self._first(role, aggregate_id, version)
        await self._bus.discard(kept)
        return _to_parked(kept)

    async def _first(
        self, role: str, aggregate_id: str, version: int | None = None
    ) -> KeptDelivery:
        for kept in await self._find(role, aggregate_id):
            if version in (None, _to_parked(kept).first):
                return kept
        at = "" if version is None else f" at version {version}"
        raise NotParked(f"{role} of {self._channel} has no letter of {aggregate_id!r}{at}")

    async def _find(self, group: str, aggregate_id: str, reason: str = "") -> list[KeptDelivery]:
        return [
            kept
            for kept in await self._bus.dead_letters(MAX_LETTERS)
            if group in ("", kept.group)
            and aggregate_id in ("", _to_parked(kept).aggregate_id)
            and kept.reason.startswith(reason)
        ]


def _to_parked(kept: KeptDelivery) -> ParkedAggregate:
    event = kept.event
    return ParkedAggregate(
        role=kept.group,
        partition=0,
        aggregate_id=event.aggregate_id if event else UNREADABLE,
        first=event.version if event else 0,
        last=event.version if event else 0,
        event_id=event.id if event else kept.id,
        event_type=event.event_type if event else "",
        reason=kept.reason,
        details=kept.reason,
        attempts=1,
        parked_at=kept.time,
    )
