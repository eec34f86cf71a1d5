"""Queries that are slow, or break off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.event import EventRecord


class Breaking(MemoryEvents):
    """Fails after so many events."""

    good = 0

    async def read(self, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        count = 0
        async for event in super().read(*args, **named):
            if count == self.good:
                raise ServerUnavailable("MongoDB is away")
            yield event
            count += 1


class Slow(MemoryEvents):
    """Reads for ever, and notes that a read was ended."""

    began: asyncio.Event
    ended = 0

    async def heads(self, *args: Any) -> Any:
        return await self._read()

    async def read(self, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        await self._read()
        for event in ():
            yield event

    async def _read(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended += 1
            raise
