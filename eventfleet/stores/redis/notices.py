"""Notices on Redis, by its publish and subscribe."""

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
"""Seconds without a word after which the server is asked whether it is still there."""

_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(list[Notice]).decode


class RedisNotices:
    """Nothing connects before the first call. `timeout` in seconds bounds each exchange.

    Misconfigured when the URL can't be used.
    """

    def __init__(self, url: str, *, timeout: float, quiet: float = QUIET_SECONDS) -> None:
        self._sessions = SessionPool(url, timeout, ())
        self._url, self._timeout, self._quiet = url, timeout, quiet

    async def publish(self, told: Mapping[str, Sequence[Notice]]) -> None:
        calls = list(_calls(told))
        if calls:
            async with self._sessions.session("notices") as session:
                await session.call(calls)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Notice]]:
        what = f"notices on {channel}"
        session = Session(self._url)
        try:
            with translate_errors(what, self._timeout):
                async with asyncio.timeout(self._timeout):
                    await session.begin()
                    _, *early = await session.call([("SUBSCRIBE", channel)])
            yield self._stream(what, session, early)
        finally:
            await session.end()

    async def close(self) -> None:
        await self._sessions.close()

    async def _stream(self, what: str, session: Session, said: list[Any]) -> AsyncIterator[Notice]:
        while True:
            for notice in _notices(said):
                yield notice
            with translate_errors(what, self._timeout):
                said = await self._said(session)

    async def _said(self, session: Session) -> list[Any]:
        try:
            async with asyncio.timeout(self._quiet):
                return await session.arrived()
        except TimeoutError:
            async with asyncio.timeout(self._timeout):
                return await session.call([("PING",)])


def _calls(told: Mapping[str, Sequence[Notice]]) -> Iterator[RedisCommand]:
    for channel, notices in told.items():
        for start in range(0, len(notices), MAX_MESSAGE_NOTICES):
            yield "PUBLISH", channel, _write(notices[start : start + MAX_MESSAGE_NOTICES])


def _notices(said: list[Any]) -> Iterator[Notice]:
    """Those in the server's words; what others publish and is no notice does not count."""
    for kind, *rest in said:
        if kind == b"message":
            try:
                yield from _read(rest[1])
            except msgspec.DecodeError:
                continue
