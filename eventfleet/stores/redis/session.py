"""Sessions with a Redis server: the one import of the driver, but for its errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any

from hiredis import Reader, pack_command
from redis.asyncio.connection import Connection, parse_url

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.redis.errors import (
    InvalidResponse,
    ResponseError,
    SessionEnded,
    UnknownScript,
    translate_errors,
)
from eventfleet.stores.redis.scripts import Script

MAX_SESSIONS = 4
MAX_PIPELINED_COMMANDS = 500
READ_BYTES = 262_144
INCOMPLETE = object()
DRIVER_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "client_name": "eventfleet",
    "retry": None,
    "retry_on_timeout": False,
    "health_check_interval": 0,
    "socket_timeout": None,
    "socket_connect_timeout": None,
}

RedisCommand = tuple[str | bytes | int, ...]
PackCalls = Callable[[bytes], Iterable[bytes]]
"""From the server's run id to the calls of a script, packed."""
_pack: Any = pack_command
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Session:
    """One connection to one server process, whose run id the calls of scripts bring along.

    The driver connects again by itself where a connection is lost, to whatever process answers by
    then. Here the second greeting is refused, so that a run id is never told to another process.
    The driver reads one reply at a time; once it has greeted, all that have arrived are read here.
    """

    def __init__(self, url: str, scripts: Sequence[Script] = ()) -> None:
        options = {**parse_url(url), **DRIVER_OPTIONS}
        made_by: Any = options.pop("connection_class", Connection)
        self._connection = made_by(**options, redis_connect_func=self._greet)
        self._scripts = scripts
        self._greeted = False
        self._run = b""
        self._stream: Any = None
        self._parser: Any = None

    async def begin(self) -> None:
        """Connect; ask for the run id before anything else."""
        await self._connection.connect()
        self._stream = self._connection._reader
        self._parser = Reader(
            protocolError=InvalidResponse,
            replyError=self._connection._parser.parse_error,
            notEnoughData=INCOMPLETE,
        )
        loads: list[RedisCommand] = [("SCRIPT", "LOAD", script.text) for script in self._scripts]
        info, *_ = await self.call([("INFO", "server"), *loads])
        found = _RUN_ID.search(info)
        if not found:
            raise Misconfigured("the server does not tell its run id")
        self._run = found[1]

    async def run(self, script: Script, calls: PackCalls, count: int) -> list[Any]:
        """The replies of one script to so many calls; one pipeline."""
        replies = await self._exchange(calls(self._run), count)
        unknown = next((i for i, r in enumerate(replies) if isinstance(r, UnknownScript)), None)
        if unknown is None:
            return _checked(replies)
        # Somebody has flushed the scripts. What was run since, another client having loaded them,
        # may run again: each script recognises what it has done.
        await self.call([("SCRIPT", "LOAD", script.text)])
        again = islice(calls(self._run), unknown, None)
        return _checked(replies[:unknown] + await self._exchange(again, count - unknown))

    async def call(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """The replies; the first error among them is raised when all are read."""
        return _checked(await self._exchange(map(_pack, commands), len(commands)))

    async def stands(self) -> bool:
        """Whether the connection, which nobody uses, is still fit for use as far as known here."""
        with suppress(Exception):
            return not (self._parser.has_data() or await self._connection.can_read())
        return False

    async def end(self) -> None:
        """Never raises."""
        with suppress(Exception):
            await self._connection.disconnect(nowait=True)

    async def _exchange(self, packed: Iterable[bytes], count: int) -> list[Any]:
        """The replies, errors among them: the server works while the rest is packed."""
        packed = iter(packed)
        while batch := b"".join(islice(packed, MAX_PIPELINED_COMMANDS)):
            await self._connection.send_packed_command(batch)
        replies: list[Any] = []
        while len(replies) < count:
            replies += await self.arrived()
        return replies

    async def arrived(self) -> list[Any]:
        """What the server has said since it was last read, once there is something."""
        data = await self._stream.read(READ_BYTES)
        if not data:
            raise SessionEnded("the connection was lost")
        self._parser.feed(data)
        return list(iter(self._parser.gets, INCOMPLETE))

    async def _greet(self, connection: Any) -> None:
        if self._greeted:
            raise SessionEnded("the connection was lost")
        self._greeted = True
        await connection.on_connect()


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


class SessionPool:
    """A few sessions for many tasks. After an error or a cancellation all are made anew."""

    def __init__(self, url: str, timeout: float, scripts: Sequence[Script]) -> None:
        try:
            Session(url)
        except (TypeError, ValueError, ResponseError) as error:
            raise Misconfigured(f"Redis' URL can't be used: {error}") from None
        self._url, self._timeout, self._scripts = url, timeout, scripts
        self._free = asyncio.Semaphore(MAX_SESSIONS)
        self._idle: list[Session] = []

    @asynccontextmanager
    async def session(self, what: str) -> AsyncIterator[Session]:
        """A session for one exchange, all bounded by the timeout; `what` begins messages."""
        with translate_errors(what, self._timeout):
            async with asyncio.timeout(self._timeout), self._free:
                session = await self._take()
                try:
                    yield session
                except BaseException:
                    self._idle.append(session)
                    await self.close()
                    raise
                self._idle.append(session)

    async def close(self) -> None:
        """End those that are idle. Never raises."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.end()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if await session.stands():
                return session
            await session.end()
        session = Session(self._url, self._scripts)
        try:
            await session.begin()
        except BaseException:
            await session.end()
            raise
        return session
