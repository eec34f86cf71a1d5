"""Publisher: publishes the events that are pending in an outbox, under a lease."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from uuid import uuid4

from eventfleet.buses.bus import ConfirmingBus, EventBus
from eventfleet.buses.confirmations import Confirmations
from eventfleet.buses.errors import BusRestarted
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.publication import ListedParking, Publication
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Clock, Outbox
from eventfleet.stores.contracts.dead_letters import DeadLetterStore
from eventfleet.stores.contracts.outbox import BusPlace
from eventfleet.stores.errors import StoreError
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics

BATCH_EVENTS = 500
LEASE_SECONDS = 5.0
RENEWAL_SECONDS = 1.0
POLL_SECONDS = 0.25
STOP_SECONDS = 5.0
LEFT_BEHIND_SECONDS = 2.0
"""How long an event without a bus may be pending before its writer is taken for dead."""

PUBLISH, WRITE = "publish", "write"
"""The names under which dead letters list what can't be published, and what can't be written."""

MapEvent = Callable[[EventRecord], Sequence[DocumentEvent]]
"""Makes what is published of a stored event."""

Repair = Callable[[Mapping[str, int]], Awaitable[None]]
"""Has documents written, by the text of their ids, up to these versions at least."""


class Publisher:
    """Publishes a domain's pending events: each aggregate's in version order, at least once.

    One process of many holds the lease. Should two work at the same time, subscribers see some
    events twice, each aggregate's first occurrences still in order. An event that can't be
    published is parked with those behind it, as the roles park; the dead letters list it.

    With a `repair` events are settled once their documents are written; that is all that it does
    without a bus.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        letters: DeadLetterStore,
        bus: EventBus | None,
        map_event: MapEvent,
        *,
        repair: Repair | None = None,
        clock: Clock | None = None,
        logger: logging.Logger,
    ) -> None:
        """`name` is the collection's or domain's: the publishers of one name share a lease."""
        self._name, self._outbox, self._bus, self._logger = name, outbox, bus, logger
        self._clock = clock or SystemClock()
        self._owner, self._held_at = uuid4().hex, -math.inf
        self._lease = f"{name}.{'publisher' if bus else 'projector'}"
        delivery = BusDelivery(name, outbox, bus, map_event, repair, self._clock)
        parking = ListedParking(
            Topics.of(name, ""), PUBLISH if bus else WRITE, 0, letters, self._clock, tried=set()
        )
        self._delivery, self._publication = delivery, Publication(outbox, parking, delivery)
        self._nudged, self._stopping = asyncio.Event(), False
        self._task = BackgroundTask(f"publisher of {name}", self._work)

    def start(self) -> None:
        self._stopping = False
        self._task.start()

    def nudge(self) -> None:
        """Look at once for events to publish."""
        if self._bus is not None:
            self._nudged.set()

    async def stop(self) -> None:
        """Publish what is pending, within STOP_SECONDS; another publisher does what is left."""
        self._stopping = True
        self._nudged.set()
        await self._task.end(STOP_SECONDS)
        self._held_at = -math.inf
        try:
            await self._outbox.release_lease(self._lease, self._owner)
        except StoreError as error:
            self._logger.warning("%s is not given up, and expires: %s", self._lease, error)

    async def _work(self) -> None:
        self._held_at = -math.inf
        while True:
            is_last_round = self._stopping
            while await self._take_lease() and await self._round():
                pass
            self._task.report_well()
            if is_last_round:
                return
            await self._pause()

    async def _take_lease(self) -> bool:
        """Hold the lease, and begin with what earlier holders have left."""
        is_new = self._held_at == -math.inf
        if not await self._hold_lease():
            self._held_at = -math.inf
            return False
        if is_new:
            await self._delivery.open()
            await self._publication.open()
        return True

    async def _hold_lease(self) -> bool:
        """Take the lease, or prolong it in time; False: another publisher has it."""
        now = asyncio.get_running_loop().time()
        if now - self._held_at < RENEWAL_SECONDS:
            return True
        if not await self._outbox.hold_lease(self._lease, self._owner, LEASE_SECONDS):
            return False
        self._held_at = now
        return True

    async def _round(self) -> int:
        """Redrive and publish; return the number of events that were pending."""
        try:
            await self._delivery.look()
            await self._publication.redrive(self._hold_lease)
            events = await self._pending()
            if events:
                await self._publication.publish(events)
            return len(events)
        except BusRestarted as error:
            self._logger.warning("publisher of %s: %s", self._name, error)
            await self._delivery.open()
            return 1

    async def _pending(self) -> list[EventRecord]:
        events = await self._outbox.pending(BATCH_EVENTS, to_publish=self._bus is not None)
        if self._bus is not None:
            return events
        left_behind = self._clock.now() - timedelta(seconds=LEFT_BEHIND_SECONDS)
        return [event for event in events if event.time < left_behind]

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS if self._bus else LEFT_BEHIND_SECONDS):
                await self._nudged.wait()
        except TimeoutError:
            pass
        self._nudged.clear()


class BusDelivery:
    """Maps events, sends them to the bus, and has their documents written."""

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        bus: EventBus | None,
        map_event: MapEvent,
        repair: Repair | None,
        clock: Clock,
    ) -> None:
        self.map = map_event
        self._bus, self._repair, self._name = bus, repair, name
        self._confirmations: Confirmations | None = None
        if isinstance(bus, ConfirmingBus):
            self._confirmations = Confirmations(f"{name}.bus", outbox, bus, clock)

    async def open(self) -> None:
        """Find out what the bus holds; called by a new holder of the lease, and after a loss."""
        if self._confirmations:
            await self._confirmations.open()

    async def look(self) -> None:
        """Settle what the bus's groups have handled. BusRestarted."""
        if self._confirmations:
            await self._confirmations.look()

    async def reclaim(self) -> bool:
        return self._confirmations is not None and await self._confirmations.reclaim()

    async def send(self, events: Sequence[DocumentEvent]) -> BusPlace | None:
        if not events or self._bus is None:
            return None
        if self._confirmations:
            return await self._confirmations.publish(events)
        await self._bus.publish(events)
        return None

    async def write(self, versions: Mapping[str, int]) -> None:
        if self._repair and versions:
            await self._repair(versions)
