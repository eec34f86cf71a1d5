"""Channels, in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from eventfleet.stores.memory.broadcast import Broadcast


class MemoryChannels:
    """Channels: the server and any number of clients."""

    def __init__(self) -> None:
        self._broadcast: Broadcast[bytes] = Broadcast()
        self._claims: dict[str, float] = {}
        self.publish, self.close = self._broadcast.publish, self._broadcast.close
        self.stop, self.start = self._broadcast.stop, self._broadcast.start

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        async with self._broadcast.subscribe(channel) as messages:
            yield ([message] async for message in messages)

    async def claim(self, names: Sequence[str], seconds: float) -> list[bool]:
        await self.publish({})
        return [self._claim(name, seconds) for name in names]

    def _claim(self, name: str, seconds: float) -> bool:
        now = monotonic()
        self._claims = {each: end for each, end in self._claims.items() if end > now}
        if name in self._claims:
            return False
        self._claims[name] = now + seconds
        return True
