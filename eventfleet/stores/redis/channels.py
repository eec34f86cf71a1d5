"""Channels, on Redis, by its publish and subscribe."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from eventfleet.stores.redis.errors import translate_errors
from eventfleet.stores.redis.session import RedisCommand, Session, SessionPool, database_number

QUIET_SECONDS = 5.0
"""Time without a message after which the server is pinged."""


class RedisChannels:
    """Channels on Redis. `timeout` in seconds bounds each exchange; the first call connects.

    After `quiet` seconds without a message the server is pinged. Misconfigured: the URL can't be
    used.
    """

    def __init__(self, url: str, *, timeout: float, quiet: float = QUIET_SECONDS) -> None:
        self._pool = SessionPool(url, timeout, ())
        self._url, self._timeout, self._quiet = url, timeout, quiet
        self._database = database_number(url)

    async def publish(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        commands: list[RedisCommand] = [
            ("PUBLISH", self._name(channel), message)
            for channel, each in messages.items()
            for message in each
        ]
        if commands:
            async with self._pool.session("publish", "channels") as session:
                await session.call(commands)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        label = f"channel {channel}"
        session = Session(self._url)
        try:
            with translate_errors(label, self._timeout):
                async with asyncio.timeout(self._timeout):
                    await session.connect()
                    _, *early = await session.call([("SUBSCRIBE", self._name(channel))])
            yield self._stream(label, session, early)
        finally:
            await session.disconnect()

    async def claim(self, names: Sequence[str], seconds: float) -> list[bool]:
        milliseconds = max(1, int(seconds * 1000))
        commands: list[RedisCommand] = [
            ("SET", name, b"", "NX", "PX", milliseconds) for name in names
        ]
        if not commands:
            return []
        async with self._pool.session("claim", "channels") as session:
            return [reply is not None for reply in await session.call(commands)]

    async def close(self) -> None:
        await self._pool.close()

    def _name(self, channel: str) -> str:
        """The channel's name in Redis, whose channels are the same in all databases."""
        return f"{channel}@{self._database}" if self._database else channel

    async def _stream(
        self, label: str, session: Session, replies: list[Any]
    ) -> AsyncIterator[Sequence[bytes]]:
        while True:
            if messages := [rest[1] for kind, *rest in replies if kind == b"message"]:
                yield messages
            with translate_errors(label, self._timeout):
                replies = await self._next_replies(session)

    async def _next_replies(self, session: Session) -> list[Any]:
        try:
            async with asyncio.timeout(self._quiet):
                return await session.read_replies()
        except TimeoutError:
            async with asyncio.timeout(self._timeout):
                return await session.call([("PING",)])
