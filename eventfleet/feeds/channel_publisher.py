"""ChannelPublisher: publishes to channels, together where many do so at once."""

import asyncio

from eventfleet.stores.contracts import Channels


class ChannelPublisher:
    """Publishes the messages of many tasks; those that come while others are on their way go
    together."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._waiting: dict[str, list[bytes]] = {}
        self._publishing: asyncio.Task[None] | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        """Publish a message. ServerUnavailable: it may not have been published."""
        self._waiting.setdefault(channel, []).append(message)
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish_all())
        publishing = self._publishing
        await asyncio.shield(publishing)

    async def _publish_all(self) -> None:
        while self._waiting:
            messages, self._waiting = self._waiting, {}
            await self._channels.publish(messages)
