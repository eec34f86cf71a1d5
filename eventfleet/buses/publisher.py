"""Publisher: publishes the events that are pending in an outbox, under a lease."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec

from eventfleet.buses.bus import EventBus
from eventfleet.buses.event import DocumentEvent
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import Outbox
from eventfleet.stores.errors import ServerUnavailable, StoreError
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord

BATCH_EVENTS = 500
LEASE_SECONDS = 5.0
RENEWAL_SECONDS = 1.0
POLL_SECONDS = 0.25
STOP_SECONDS = 5.0
LEFT_BEHIND_SECONDS = 2.0
"""How long an event without a bus may be pending before its writer is taken for dead."""

MapEvent = Callable[[EventRecord], Sequence[DocumentEvent]]
"""Makes what is published of a stored event."""

Repair = Callable[[Mapping[str, int]], Awaitable[None]]
"""Has documents written, by the text of their ids, up to these versions at least."""


class PublishingStopped(EventfleetError):
    """Nothing of a collection or domain is published, or projected, until this event can be."""

    def __init__(self, what: str, place: str, since: datetime, error: Exception) -> None:
        super().__init__(
            f"{what} stops at {place}: {type(error).__name__}: {error}; all behind it waits,"
            f" since {since:%Y-%m-%dT%H:%M:%SZ}"
        )


class Publisher:
    """Publishes a domain's pending events: each aggregate's in version order, at least once.

    One process of many holds the lease. Should two work at the same time, subscribers see some
    events twice, each aggregate's first occurrences still in order: what a publisher finds settled
    was published, and what it finds pending it publishes itself before anything behind it.

    With a `repair` events are settled once their documents are written; that is all that it does
    without a bus.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        bus: EventBus | None,
        map_event: MapEvent,
        *,
        repair: Repair | None = None,
        logger: logging.Logger,
    ) -> None:
        """`name` is the collection's or domain's: the publishers of one name share a lease."""
        self._outbox, self._bus, self._map_event = outbox, bus, map_event
        self._name, self._repair, self._logger = name, repair, logger
        self._owner, self._held_at = uuid4().hex, -math.inf
        self._lease = f"{name}.{'publisher' if bus else 'projector'}"
        self._stopped_at, self._stopped_since = "", datetime.now(UTC)
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
        while True:
            is_last_round = self._stopping
            while await self._hold_lease() and await self._publish_batch():
                pass
            self._task.report_well()
            if is_last_round:
                return
            await self._pause()

    async def _hold_lease(self) -> bool:
        """Take the lease, or prolong it in time; False: another publisher has it."""
        now = asyncio.get_running_loop().time()
        if now - self._held_at < RENEWAL_SECONDS:
            return True
        if not await self._outbox.hold_lease(self._lease, self._owner, LEASE_SECONDS):
            return False
        self._held_at = now
        return True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS if self._bus else LEFT_BEHIND_SECONDS):
                await self._nudged.wait()
        except TimeoutError:
            pass
        self._nudged.clear()

    async def _publish_batch(self) -> int:
        """Publish and settle what is oldest; return the number of events."""
        events = await self._outbox.pending(BATCH_EVENTS, to_publish=self._bus is not None)
        if self._bus is None:
            left_behind = datetime.now(UTC) - timedelta(seconds=LEFT_BEHIND_SECONDS)
            events = [event for event in events if event.time < left_behind]
        if not events:
            return 0
        if self._bus is not None:
            await self._publish(self._bus, events)
        if self._repair is not None:
            await self._project(self._repair, events)
        await self._outbox.settle([event.key for event in events])
        self._stopped_at = ""
        return len(events)

    async def _publish(self, bus: EventBus, events: Sequence[EventRecord]) -> None:
        published = [each for event in events for each in self._mapped(event)]
        try:
            await bus.publish(published)
        except ServerUnavailable:
            raise
        except Exception as error:
            raise self._stopped("the bus", _largest(events), error) from error

    def _mapped(self, event: EventRecord) -> Sequence[DocumentEvent]:
        try:
            return self._map_event(event)
        except Exception as error:
            raise self._stopped("the mapper", event, error) from error

    async def _project(self, repair: Repair, events: Sequence[EventRecord]) -> None:
        """Have the documents written; where that fails, one by one, to name the one that can't."""
        latest = {event.aggregate_id: event for event in events}
        try:
            await repair({id: event.version for id, event in latest.items()})
        except ServerUnavailable:
            raise
        except Exception:
            for id, event in latest.items():
                try:
                    await repair({id: event.version})
                except ServerUnavailable:
                    raise
                except Exception as error:
                    raise self._stopped("projecting", event, error) from error

    def _stopped(self, what: str, event: EventRecord, error: Exception) -> PublishingStopped:
        """Return the error that names an event, and the time when it was met first."""
        place = f"{self._name} {event.aggregate_id!r} version {event.version}, {event.type}"
        if place != self._stopped_at:
            self._stopped_at, self._stopped_since = place, datetime.now(UTC)
        return PublishingStopped(what, place, self._stopped_since, error)


def _largest(events: Sequence[EventRecord]) -> EventRecord:
    """Return the event that a bus most likely refuses."""
    return max(events, key=lambda event: len(msgspec.json.encode(event.data)))
