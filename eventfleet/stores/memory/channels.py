"""Notices and Channels, in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Generic, TypeVar

from eventfleet.stores.contracts import Claim, Incarnation, Notice
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield

MAX_UNREAD_MESSAGES = 100_000

M = TypeVar("M")


class Broadcast(Generic[M]):
    """The server and any number of clients.

    A subscriber with MAX_UNREAD_MESSAGES unread messages is dropped.
    """

    def __init__(self) -> None:
        self._listeners: defaultdict[str, list[asyncio.Queue[M | None]]] = defaultdict(list)
        self._stopped = False

    async def publish(self, messages: Mapping[str, Sequence[M]]) -> None:
        """ServerUnavailable while the server is stopped, also without a message."""
        if self._stopped:
            raise ServerUnavailable("the server is stopped")
        for channel, channel_messages in messages.items():
            for listener in self._listeners.get(channel, ()):
                for message in channel_messages:
                    if listener.full():
                        _end(listener)
                    else:
                        listener.put_nowait(message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[M]]:
        await self.publish({})
        listener: asyncio.Queue[M | None] = asyncio.Queue(MAX_UNREAD_MESSAGES)
        self._listeners[channel].append(listener)
        try:
            yield _stream(listener)
        finally:
            self._listeners[channel].remove(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]

    async def close(self) -> None:
        pass

    def stop(self) -> None:
        """Die as a server does: connections are lost, and the messages that they had not read."""
        self._stopped = True
        for listeners in self._listeners.values():
            for listener in listeners:
                _end(listener)

    def start(self) -> None:
        self._stopped = False


def _end(listener: asyncio.Queue[M | None]) -> None:
    while not listener.empty():
        listener.get_nowait()
    listener.put_nowait(None)


async def _stream(listener: asyncio.Queue[M | None]) -> AsyncIterator[M]:
    while (message := await listener.get()) is not None:
        yield message
    raise ServerUnavailable("the connection was lost")


class MemoryNotices(Broadcast[Notice]):
    """Notices: the server and any number of clients."""


class MemoryChannels:
    """Channels: the server and any number of clients. `now` is its clock, in seconds.

    A server that was stopped and started begins another incarnation, without a claim.
    """

    def __init__(
        self,
        now: Callable[[], float] = monotonic,
        yield_point: YieldPoint = no_yield,
        name: str = "",
    ) -> None:
        """`name`: in the ids of its incarnations, where another server's must differ."""
        self._name = name
        self._broadcast: Broadcast[bytes] = Broadcast()
        self._now, self._yield_point = now, yield_point
        self._run, self._began = 1, now()
        self._claims: dict[str, float] = {}
        self.publish, self.close = self._broadcast.publish, self._broadcast.close
        self.stop = self._broadcast.stop

    def start(self) -> None:
        self._run, self._began = self._run + 1, self._now()
        self._claims.clear()
        self._broadcast.start()

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        async with self._broadcast.subscribe(channel) as messages:
            yield ([message] async for message in messages)

    async def incarnation(self) -> Incarnation:
        await self._yield_point()
        await self.publish({})
        return Incarnation(self._incarnation, self._began, self._now())

    @property
    def _incarnation(self) -> str:
        return f"{self._name}{self._run}"

    async def claim(self, claims: Sequence[Claim]) -> list[float]:
        await self._yield_point()
        await self.publish({})
        left = [self._claim(claim) for claim in claims]
        await self._yield_point()
        return left

    def _claim(self, claim: Claim) -> float:
        left = claim.deadline - self._now()
        if left <= 0 or claim.incarnation != self._incarnation or claim.name in self._claims:
            return 0.0
        self._claims = {n: end for n, end in self._claims.items() if end > self._now()}
        self._claims[claim.name] = claim.deadline
        return left
