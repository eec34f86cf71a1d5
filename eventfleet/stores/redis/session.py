"""Sessions with a Redis server: the only import of the driver, but for its errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from typing import Any

from hiredis import Reader, pack_command
from redis.asyncio.connection import Connection, parse_url

from eventfleet.stores.errors import HungUp, Misconfigured, ServerUnavailable
from eventfleet.stores.redis.errors import (
    InvalidResponse,
    ResponseError,
    SessionEnded,
    UnknownScript,
    translate_errors,
)
from eventfleet.stores.redis.scripts import Script
from eventfleet.stores.server_calls import timed_call
from eventfleet.stores.timeout import Timeout
from eventfleet.stores.url_secrets import mask_credentials

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
"""Packs the calls of a script, given the server's run id."""
_pack: Any = pack_command
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Session:
    """A connection to one server process, whose run id the calls of scripts carry.

    When a connection is lost, the driver by itself connects again, to whatever process answers by
    then. A session refuses its second handshake, so that no run id ever reaches another process.
    The driver reads one reply at a time; after the handshake, a session reads all that arrived.
    """

    def __init__(self, url: str, scripts: Sequence[Script] = ()) -> None:
        options = {**parse_url(url), **DRIVER_OPTIONS}
        connection_class: Any = options.pop("connection_class", Connection)
        self._connection = connection_class(**options, redis_connect_func=self._shake_hands)
        self._scripts = scripts
        self._handshaken = False
        self._run_id = b""
        self._stream: Any = None
        self._parser: Any = None

    @property
    def run_id(self) -> bytes:
        """The run id of the server process."""
        return self._run_id

    async def connect(self) -> None:
        """Connect, and read the run id before anything else."""
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
            raise Misconfigured("the server's INFO has no run_id")
        self._run_id = found[1]

    async def run_script(self, script: Script, calls: PackCalls, count: int) -> list[Any]:
        """Call a script `count` times in one pipeline, and return the replies."""
        replies = await self._exchange(calls(self._run_id), count)
        unknown = next((i for i, r in enumerate(replies) if isinstance(r, UnknownScript)), None)
        if unknown is None:
            return _raise_first(replies)
        # Somebody has flushed the scripts. Later calls may have run all the same, if another client
        # loaded the scripts meanwhile; they may run again, since each script recognises its work.
        await self.call([("SCRIPT", "LOAD", script.text)])
        again = islice(calls(self._run_id), unknown, None)
        return _raise_first(replies[:unknown] + await self._exchange(again, count - unknown))

    async def call(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Return the replies; the first error among them is raised once all are read."""
        return _raise_first(await self._exchange(map(_pack, commands), len(commands)))

    async def is_usable(self) -> bool:
        """Return whether an idle connection still seems fit for use."""
        with suppress(Exception):
            return not (self._parser.has_data() or await self._connection.can_read())
        return False

    async def disconnect(self) -> None:
        """Disconnect. Never raises."""
        with suppress(Exception):
            await self._connection.disconnect(nowait=True)

    async def _exchange(self, packed: Iterable[bytes], count: int) -> list[Any]:
        """Return the replies, errors among them; the server works while the rest is packed."""
        packed = iter(packed)
        while batch := b"".join(islice(packed, MAX_PIPELINED_COMMANDS)):
            await self._connection.send_packed_command(batch)
        replies: list[Any] = []
        while len(replies) < count:
            replies += await self.read_replies()
        return replies

    async def read_replies(self) -> list[Any]:
        """Wait for replies, and return those that have arrived."""
        data = await self._stream.read(READ_BYTES)
        if not data:
            raise SessionEnded("the connection was lost")
        self._parser.feed(data)
        return list(iter(self._parser.gets, INCOMPLETE))

    async def _shake_hands(self, connection: Any) -> None:
        if self._handshaken:
            raise SessionEnded("the connection was lost")
        self._handshaken = True
        await connection.on_connect()


def database_number(url: str) -> int:
    """Return the number of the database that a URL names."""
    return int(parse_url(url).get("db") or 0)


def _raise_first(replies: list[Any]) -> list[Any]:
    """Raise the first error among the replies, or return them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


class SessionPool:
    """A few sessions for many tasks. After an error or a cancellation all are replaced."""

    def __init__(self, url: str, timeout: float, scripts: Sequence[Script]) -> None:
        try:
            Session(url)
        except (TypeError, ValueError, ResponseError) as error:
            reason = mask_credentials(str(error), url)
            raise Misconfigured(f"Redis' URL can't be used: {reason}") from None
        self._url, self._timeout, self._scripts = url, timeout, scripts
        self._free = asyncio.Semaphore(MAX_SESSIONS)
        self._idle: list[Session] = []
        self._has_answered = False

    @asynccontextmanager
    async def session(self, operation: str, label: str) -> AsyncIterator[Session]:
        """Yield a session for one exchange, bounded by the timeout; `label` begins messages.

        It is timed as a call of this operation. HungUp: the server has never answered, such as one
        without TLS to a handshake.
        """
        with (
            timed_call("redis", operation),
            self._telling_silence(),
            translate_errors(label, self._timeout),
            Timeout(self._timeout),
        ):
            async with self._free:
                session = await self._take()
                try:
                    yield session
                except BaseException:
                    self._idle.append(session)
                    await self.close()
                    raise
                self._idle.append(session)

    async def close(self) -> None:
        """Disconnect the idle sessions. Never raises."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.disconnect()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if await session.is_usable():
                return session
            await session.disconnect()
        session = Session(self._url, self._scripts)
        try:
            await session.connect()
        except BaseException:
            await session.disconnect()
            raise
        self._has_answered = True
        return session

    @contextmanager
    def _telling_silence(self) -> Iterator[None]:
        try:
            yield
        except ServerUnavailable as error:
            if isinstance(error.__context__, TimeoutError) and not self._has_answered:
                raise HungUp(str(error)) from None
            raise
