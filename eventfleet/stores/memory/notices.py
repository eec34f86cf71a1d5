"""Notices, in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from eventfleet.stores.contracts import Notice
from eventfleet.stores.errors import ServerUnavailable

MAX_UNREAD_NOTICES = 100_000
Listener = asyncio.Queue[Notice | None]
"""The unread notices of a subscriber; None ends its stream."""


class MemoryNotices:
    """Notices: the server and any number of clients.

    A subscriber with MAX_UNREAD_NOTICES unread notices is dropped.
    """

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._stopped = False

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        self._check_running()
        for channel, channel_notices in notices.items():
            for listener in self._listeners.get(channel, ()):
                for notice in channel_notices:
                    _put(listener, notice)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Notice]]:
        self._check_running()
        listener: Listener = asyncio.Queue(MAX_UNREAD_NOTICES)
        self._listeners[channel].add(listener)
        try:
            yield _stream(listener)
        finally:
            self._listeners[channel].discard(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]

    async def close(self) -> None:
        pass

    def stop(self) -> None:
        """Die as a server does: connections are lost, and the notices that they had not read."""
        self._stopped = True
        for listeners in self._listeners.values():
            for listener in listeners:
                _end(listener)

    def start(self) -> None:
        self._stopped = False

    def _check_running(self) -> None:
        if self._stopped:
            raise ServerUnavailable("notices: the server is stopped")


def _put(listener: Listener, notice: Notice) -> None:
    if listener.full():
        _end(listener)
    else:
        listener.put_nowait(notice)


def _end(listener: Listener) -> None:
    while not listener.empty():
        listener.get_nowait()
    listener.put_nowait(None)


async def _stream(listener: Listener) -> AsyncIterator[Notice]:
    while (notice := await listener.get()) is not None:
        yield notice
    raise ServerUnavailable("notices: the connection was lost")
