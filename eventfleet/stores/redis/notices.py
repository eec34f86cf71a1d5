"""Notices, on Redis, by its publish and subscribe."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from eventfleet.stores.contracts import Notice
from eventfleet.stores.redis.errors import translate_errors
from eventfleet.stores.redis.session import RedisCommand, Session, SessionPool

MAX_MESSAGE_NOTICES = 1000
QUIET_SECONDS = 5.0
"""Time without a message after which the server is pinged."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Notice]).decode


class RedisNotices:
    """Notices on Redis. `timeout` in seconds bounds each exchange; the first call connects.

    After `quiet` seconds without a message the server is pinged. Misconfigured: the URL can't be
    used.
    """

    def __init__(self, url: str, *, timeout: float, quiet: float = QUIET_SECONDS) -> None:
        self._pool = SessionPool(url, timeout, ())
        self._url, self._timeout, self._quiet = url, timeout, quiet

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        commands = list(_publish_commands(notices))
        if commands:
            async with self._pool.session("publish", "notices") as session:
                await session.call(commands)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Notice]]:
        label = f"notices on {channel}"
        session = Session(self._url)
        try:
            with translate_errors(label, self._timeout):
                async with asyncio.timeout(self._timeout):
                    await session.connect()
                    _, *early = await session.call([("SUBSCRIBE", channel)])
            yield self._stream(label, session, early)
        finally:
            await session.disconnect()

    async def close(self) -> None:
        await self._pool.close()

    async def _stream(
        self, label: str, session: Session, messages: list[Any]
    ) -> AsyncIterator[Notice]:
        while True:
            for notice in _notices(messages):
                yield notice
            with translate_errors(label, self._timeout):
                messages = await self._next_messages(session)

    async def _next_messages(self, session: Session) -> list[Any]:
        try:
            async with asyncio.timeout(self._quiet):
                return await session.read_replies()
        except TimeoutError:
            async with asyncio.timeout(self._timeout):
                return await session.call([("PING",)])


def _publish_commands(notices: Mapping[str, Sequence[Notice]]) -> Iterator[RedisCommand]:
    for channel, each in notices.items():
        for start in range(0, len(each), MAX_MESSAGE_NOTICES):
            yield "PUBLISH", channel, _encode(each[start : start + MAX_MESSAGE_NOTICES])


def _notices(messages: list[Any]) -> Iterator[Notice]:
    """Decode the notices in the server's messages; others may publish what is none."""
    for kind, *rest in messages:
        if kind == b"message":
            try:
                yield from _decode(rest[1])
            except msgspec.DecodeError:
                continue
