"""Notices in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from eventfleet.stores.contracts import Notice
from eventfleet.stores.errors import ServerUnavailable

MAX_UNREAD_NOTICES = 100_000
Listener = asyncio.Queue[Notice | None]


class MemoryNotices:
    """The server and any number of its clients. A listener with ROOM notices unread is dropped."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._away = False

    async def publish(self, told: Mapping[str, Sequence[Notice]]) -> None:
        self._must_answer()
        for channel, notices in told.items():
            for listener in self._listeners.get(channel, ()):
                for notice in notices:
                    _put(listener, notice)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Notice]]:
        self._must_answer()
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

    def go_away(self) -> None:
        """As a server that dies: connections are lost, and what they had not read yet."""
        self._away = True
        for listeners in self._listeners.values():
            for listener in listeners:
                _end(listener)

    def come_back(self) -> None:
        self._away = False

    def _must_answer(self) -> None:
        if self._away:
            raise ServerUnavailable("notices: the server is away")


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
