"""Channels, on Redis, by its publish and subscribe."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from eventfleet.stores.contracts import Claim, Incarnation
from eventfleet.stores.redis.errors import translate_errors
from eventfleet.stores.redis.incarnation import read_incarnation
from eventfleet.stores.redis.scripts import CLAIM, INCARNATION, PLACEHOLDER, Script
from eventfleet.stores.redis.session import RedisCommand, Session, SessionPool, database_number

QUIET_SECONDS = 5.0
"""Time without a message after which the server is pinged."""

KEPT_SECONDS = 60.0
"""How long a claim outlives its deadline."""


class RedisChannels:
    """Channels on Redis. `timeout` in seconds bounds each exchange; the first call connects.

    The names of channels and keys begin with `prefix` there. After `quiet` seconds without a
    message the server is pinged. Misconfigured: the URL can't be used.
    """

    def __init__(
        self, url: str, *, timeout: float, quiet: float = QUIET_SECONDS, prefix: str = ""
    ) -> None:
        self._claim = Script(CLAIM, kept=int(KEPT_SECONDS * 1000))
        self._pool = SessionPool(url, timeout, (INCARNATION, self._claim))
        self._url, self._timeout, self._quiet = url, timeout, quiet
        self._prefix, self._database = prefix, database_number(url)
        self._life = f"{prefix}life".encode()
        self._waiting: list[RedisCommand] = []
        self._publishing: asyncio.Task[None] | None = None
        self._in_order = asyncio.Lock()

    async def publish(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """Messages that come while others are on their way go together, whoever gives up."""
        for channel, each in messages.items():
            self._waiting += [("PUBLISH", self._name(channel), message) for message in each]
        if self._waiting:
            if self._publishing is None:
                self._publishing = asyncio.create_task(self._publish_waiting())
            await asyncio.shield(self._publishing)

    async def _publish_waiting(self) -> None:
        async with self._in_order:
            commands, self._waiting, self._publishing = self._waiting, [], None
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

    async def incarnation(self) -> Incarnation:
        async with self._pool.session("incarnation", "channels") as session:
            return await read_incarnation(session, self._life)

    async def claim(self, claims: Sequence[Claim]) -> list[float]:
        if not claims:
            return []
        calls = partial(self._pack_claims, claims)
        async with self._pool.session("claim", "channels") as session:
            left = await session.run_script(self._claim, calls, len(claims))
        return [milliseconds / 1000 for milliseconds in left]

    def _pack_claims(self, claims: Sequence[Claim], run_id: bytes) -> Iterator[bytes]:
        template = self._claim.template((self._life, PLACEHOLDER), (run_id, *(PLACEHOLDER,) * 2))
        for claim in claims:
            name = f"{self._prefix}{claim.name}".encode()
            words = name, claim.incarnation.encode(), b"%.6f" % claim.deadline
            yield template % tuple(part for word in words for part in (len(word), word))

    async def close(self) -> None:
        await self._pool.close()

    def _name(self, channel: str) -> str:
        """The channel's name in Redis, whose channels are the same in all databases."""
        name = f"{self._prefix}{channel}"
        return f"{name}@{self._database}" if self._database else name

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
