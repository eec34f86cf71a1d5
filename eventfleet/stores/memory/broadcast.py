"""Broadcast: what Notices and Channels have in common, in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from eventfleet.stores.errors import ServerUnavailable

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
        self._check_running()
        for channel, channel_messages in messages.items():
            for listener in self._listeners.get(channel, ()):
                for message in channel_messages:
                    _put(listener, message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[M]]:
        self._check_running()
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

    def _check_running(self) -> None:
        if self._stopped:
            raise ServerUnavailable("the server is stopped")


def _put(listener: asyncio.Queue[M | None], message: M) -> None:
    if listener.full():
        _end(listener)
    else:
        listener.put_nowait(message)


def _end(listener: asyncio.Queue[M | None]) -> None:
    while not listener.empty():
        listener.get_nowait()
    listener.put_nowait(None)


async def _stream(listener: asyncio.Queue[M | None]) -> AsyncIterator[M]:
    while (message := await listener.get()) is not None:
        yield message
    raise ServerUnavailable("the connection was lost")
