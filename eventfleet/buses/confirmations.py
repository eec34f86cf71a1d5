"""Confirmations: the events that groups have yet to handle are published again after a loss."""

import logging
from collections.abc import Sequence
from datetime import timedelta

from eventfleet.buses.bus import ConfirmingBus
from eventfleet.buses.event import DocumentEvent
from eventfleet.stores.contracts import Clock, Outbox
from eventfleet.stores.contracts.outbox import BusNote, BusPlace

LOOK_INTERVAL = timedelta(seconds=1)
ALL_OFFSETS = 2**63 - 1

logger = logging.getLogger(__name__)


class Confirmations:
    """Knows a bus's incarnation, and has events settled once all groups have handled them.

    The incarnation is noted in the store. A bus that has lost its data has another one: then the
    events that were not confirmed become pending again. Groups of the one before are waited for.
    """

    def __init__(self, name: str, outbox: Outbox, bus: ConfirmingBus, clock: Clock) -> None:
        self._name, self._outbox, self._bus, self._clock = name, outbox, bus, clock
        self._note = BusNote("")
        self._seen: set[str] = set()
        self._looked_at = clock.steady() - LOOK_INTERVAL

    async def open(self) -> None:
        """Find out which incarnation the bus has; called by a publisher that holds the lease."""
        noted = await self._outbox.bus_note(self._name) or BusNote("")
        present = await self._bus.incarnation(noted.incarnation)
        self._note = BusNote(present, noted.groups)
        self._seen = set()
        if noted.incarnation != present:
            await self._outbox.publish_again(present)
            await self._outbox.note_bus(self._name, self._note)
            if noted.incarnation:
                logger.warning(
                    "%s: the bus has lost its data; what its groups have not confirmed is published"
                    " again to %s",
                    self._name,
                    ", ".join(noted.groups) or "those that come",
                )

    async def publish(self, events: Sequence[DocumentEvent]) -> BusPlace:
        """Publish events; return the last one's place. BusRestarted: `open` comes first."""
        incarnation = self._note.incarnation
        return BusPlace(incarnation, await self._bus.publish_in(incarnation, events))

    async def reclaim(self) -> bool:
        """Make pending what a late publisher has settled in an earlier incarnation."""
        return await self._outbox.publish_again(self._note.incarnation)

    async def look(self) -> None:
        """Settle what all groups have confirmed, at an interval. BusRestarted as `publish`."""
        now = self._clock.steady()
        if now - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = now
        confirmed = await self._bus.confirmed(self._note.incarnation)
        await self.reclaim()  # also where no event is pending
        await self._note_groups({*confirmed})
        if self._seen >= {*self._note.groups}:
            up_to = min(confirmed.values(), default=ALL_OFFSETS)
            # Also what was settled late, at a place that was confirmed before.
            await self._outbox.confirm(BusPlace(self._note.incarnation, up_to))

    async def _note_groups(self, present: set[str]) -> None:
        """Note the groups that are there; one that is gone within an incarnation was removed."""
        groups = tuple(sorted(({*self._note.groups} - self._seen) | present))
        self._seen = present
        if groups != self._note.groups:
            self._note = BusNote(self._note.incarnation, groups)
            await self._outbox.note_bus(self._name, self._note)
