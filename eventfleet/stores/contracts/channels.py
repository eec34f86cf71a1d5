"""Contract of the channels that processes talk to each other over."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Channels(Protocol):
    """Publishes messages to whoever is subscribed, by channel.

    Nothing is kept: a subscriber that is away, or too slow, misses messages.
    """

    async def publish(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """Publish each channel's messages in order; in all, few enough for memory.

        After ServerUnavailable some of them may have been published.
        """

    def subscribe(
        self, channel: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[bytes]]]:
        """Stream what is published on the channel from the block's beginning on, as it comes.

        The stream ends with ServerUnavailable when it may have missed a message, also where the
        server merely fell silent; subscribe again then.
        """

    async def claim(self, names: Sequence[str], seconds: float) -> list[bool]:
        """Return for each name whether nobody has claimed it yet; for some seconds nobody else
        will."""

    async def close(self) -> None:
        """Release the connections, but for those of subscribers. Never raises."""
