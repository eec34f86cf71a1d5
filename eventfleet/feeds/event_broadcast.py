"""EventBroadcast: publishes a domain's new events to all processes, ahead of the log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from eventfleet.feeds.channel_names import ChannelNames
from eventfleet.stores.background_task import cancel
from eventfleet.stores.contracts import Channels
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord

MAX_BEING_PUBLISHED = 1_000


class EventBroadcast:
    """Publishes a domain's events to the hubs of all processes as soon as they are stored.

    It is the short way only: the log brings every event, too. So events are left out where Redis
    does not take them, or not fast enough.
    """

    def __init__(self, channels: Channels, domain: str) -> None:
        self._channels, self._channel = channels, ChannelNames.of(domain).events
        self._being_published: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EventBroadcast"]:
        try:
            yield self
        finally:
            for task in list(self._being_published):
                await cancel(task)

    def announce(self, events: Sequence[EventRecord]) -> None:
        """Publish stored events, behind the caller's back."""
        for event in events[: MAX_BEING_PUBLISHED - len(self._being_published)]:
            task = asyncio.create_task(self._publish(encode(event)))
            self._being_published.add(task)
            task.add_done_callback(self._being_published.discard)

    async def _publish(self, event: bytes) -> None:
        with suppress(ServerUnavailable):
            await self._channels.publish({self._channel: [event]})
