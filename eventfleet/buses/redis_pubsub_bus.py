"""RedisPubSubBus: an event bus on a Redis channel, which keeps nothing."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from eventfleet.buses.bus import KeptDelivery
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import Subscriber
from eventfleet.buses.memory_bus import MemoryBus
from eventfleet.buses.serializer import CloudEventsSerializer, Serializer
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.gaps import tell_gap
from eventfleet.stores.redis.errors import translate_errors
from eventfleet.stores.startable import Startable
from eventfleet.topics.errors import InvalidRecord

TIMEOUT_SECONDS = 10.0
QUIET_SECONDS = 5.0
"""Time without a message after which the server is pinged."""


logger = logging.getLogger(__name__)


class RedisPubSubBus(Startable):
    """EventBus on the publish and subscribe of Redis, which keeps nothing; the client stays open.

    Unlike the other buses it delivers at most once, to the processes that are connected: what is
    published while one is away, or too slow for the server's buffer, that one misses; what is
    published again comes again. Every process gets all events, so a group shares them in its own
    process only. What a subscriber raises is tried again; then it is with the dead letters, which
    this process has in memory.
    """

    def __init__(self, client: Any, channel: str, serializer: Serializer | None = None) -> None:
        self._client, self._channel = client, channel
        self._serializer: Serializer = serializer or CloudEventsSerializer()
        self._local = MemoryBus()
        self._subscription: Any = None
        self._listener = BackgroundTask(f"subscription to {channel}", self._listen)

    async def start(self) -> None:
        """Connect and subscribe. The error names the server's reason."""
        logger.warning("channel %s keeps nothing: it may lose events", self._channel)
        with self._translating("starting"):
            await self._subscribe()
        await self._local.start()
        self._listener.start()

    async def stop(self) -> None:
        await self._listener.end()
        await self._unsubscribe()
        await self._local.stop()

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        with self._translating("publishing"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                pipeline = self._client.pipeline(transaction=False)
                for event in events:
                    pipeline.publish(self._channel, self._serializer.encode(event))
                await pipeline.execute()

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        self._local.subscribe(pattern, subscriber, group)

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        return await self._local.dead_letters(limit)

    async def redeliver(self, kept: KeptDelivery) -> None:
        await self._local.redeliver(kept)

    async def discard(self, kept: KeptDelivery) -> None:
        await self._local.discard(kept)

    async def _listen(self) -> None:
        """Pass on what is published, until the connection is lost: then it is made again."""
        try:
            with self._translating("listening"):
                if self._subscription is None:
                    await self._subscribe()
                    now = datetime.now(UTC).isoformat(timespec="seconds")
                    lost = f"may have lost events published before {now}: it was not connected"
                    tell_gap(f"Redis channel {self._channel}", lost)
                while True:
                    await self._pass_on(await self._next_message())
        finally:
            await self._unsubscribe()

    async def _subscribe(self) -> None:
        """Subscribe, and wait until the server has confirmed it."""
        self._subscription = self._client.pubsub()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._subscription.subscribe(self._channel)
                while await self._subscription.get_message(timeout=TIMEOUT_SECONDS) is None:
                    pass
        except BaseException:
            await self._unsubscribe()
            raise
        self._listener.report_well()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await subscription.aclose()

    async def _next_message(self) -> dict[str, Any]:
        """Wait for a message. ServerUnavailable: the server does not answer a ping either."""
        async with asyncio.timeout(QUIET_SECONDS + TIMEOUT_SECONDS):
            message = await self._subscription.get_message(timeout=QUIET_SECONDS)
            if message is None:
                await self._subscription.ping()
                message = await self._subscription.get_message(timeout=TIMEOUT_SECONDS)
        if message is None:
            raise ServerUnavailable(f"channel {self._channel}: Redis does not answer")
        found: dict[str, Any] = message
        return found

    async def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] != "message":
            return
        try:
            event = self._serializer.decode(message["data"])
        except InvalidRecord as error:
            logger.warning("channel %s: what is no event is passed over: %s", self._channel, error)
            return
        await self._local.publish([event])

    def _translating(self, what: str) -> Any:
        return translate_errors(f"{what}, channel {self._channel}", TIMEOUT_SECONDS)
