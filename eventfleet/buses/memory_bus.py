"""MemoryBus: an event bus in this process, for tests and programs of one process."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

from eventfleet.buses.bus import KeptDelivery
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import Subscriber
from eventfleet.buses.subscription import SubscriberGroup, SubscriberGroups
from eventfleet.model.value_copy import copy_value
from eventfleet.stores.startable import Startable

MAX_WAITING_EVENTS = 10_000
MAX_DEAD_LETTERS = 10_000
STOP_SECONDS = 5.0

logger = logging.getLogger(__name__)


class MemoryBus(Startable):
    """EventBus in memory. Publishing waits where a group has MAX_WAITING_EVENTS unhandled.

    Of more than MAX_DEAD_LETTERS the oldest is dropped, and logged.
    """

    def __init__(self) -> None:
        self._groups = SubscriberGroups(self._consume)
        self._queues: dict[str, asyncio.Queue[DocumentEvent]] = {}
        self._kept: dict[str, KeptDelivery] = {}
        self._numbers = count(1)

    async def start(self) -> None:
        self._groups.start()

    async def stop(self) -> None:
        await self._groups.stop(STOP_SECONDS)

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        for event in events:
            for group in self._groups.all():
                if group.matches(event.event_type):
                    await self._queues[group.name].put(copy_value(event))

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        name = self._groups.subscribe(pattern, subscriber, group).name
        self._queues.setdefault(name, asyncio.Queue(MAX_WAITING_EVENTS))

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        return [
            kept._replace(event=copy_value(kept.event)) if kept.event else kept
            for kept in [*self._kept.values()][:limit]
        ]

    async def redeliver(self, kept: KeptDelivery) -> None:
        if (own := self._kept.pop(kept.id, None)) and own.event:
            await self._queues[own.group].put(own.event)

    async def discard(self, kept: KeptDelivery) -> None:
        self._kept.pop(kept.id, None)

    async def _consume(self, group: SubscriberGroup) -> None:
        queue = self._queues.setdefault(group.name, asyncio.Queue(MAX_WAITING_EVENTS))
        while not self._groups.is_stopping:
            event = await queue.get()
            with self._groups.delivering():
                if reason := await group.deliver(event):
                    self._keep(group.name, event, reason)

    def _keep(self, group: str, event: DocumentEvent, reason: str) -> None:
        id = str(next(self._numbers))
        self._kept[id] = KeptDelivery(id, group, event, reason, datetime.now(UTC))
        if len(self._kept) > MAX_DEAD_LETTERS:
            oldest = self._kept.pop(next(iter(self._kept)))
            logger.warning("%s: a dead letter is dropped: %s", oldest.group, oldest.event)
