"""FeedFollower: reads a feed over HTTP, and connects again where it is cut off."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from eventfleet.stores.retry import FEED_CLIENT
from eventfleet.topics.errors import EventfleetError

EVENT, RELOAD, CUT, END = "message", "reload", "cut", "end"
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 45.0
"""Three heartbeats: a connection that brings none of them is lost."""
BUSY = 429

Headers = Mapping[str, str]
Lines = AsyncIterator[str]
Connect = Callable[[Headers], AbstractAsyncContextManager[Lines]]
"""Opens a response with these headers, and streams its lines without their ends.

ConnectionLost: the service does not answer. FeedRefused: it answers with a problem.
"""

logger = logging.getLogger(__name__)


class FeedRefused(EventfleetError):
    """The service refuses the feed; `status` is that of HTTP, `problem` its body (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        told = problem.get("detail") or problem.get("title") or "no reason is told"
        super().__init__(f"status {status}: {told}")
        self.status, self.problem = status, problem

    @property
    def is_passing(self) -> bool:
        return self.status == BUSY or self.status >= 500


class ConnectionLost(Exception):
    """The service does not answer, or the response has ended in its midst."""


class FeedUpdate(NamedTuple):
    """A message of a feed.

    Of the kind "message", `data` is an event. Of "reload", the copy can't be brought up to date:
    drop it; what follows begins anew. `cursor` is where to go on after it.
    """

    kind: str
    data: Any
    cursor: str


class FeedFollower:
    """Follows one feed; to be iterated over once."""

    def __init__(self, connect: Connect, cursor: str = "") -> None:
        """Go on from a cursor, or begin as the URL says."""
        self._connect, self._cursor = connect, cursor
        self._failures, self._retry_seconds = 0, 1.0

    async def __aiter__(self) -> AsyncIterator[FeedUpdate]:
        """Stream the updates, without end. FeedRefused, unless that may pass."""
        while True:
            headers = {"Accept": "text/event-stream"}
            if self._cursor:
                headers["Last-Event-ID"] = self._cursor
            try:
                async with self._connect(headers) as lines:
                    async for update in self._updates(lines):
                        self._failures = 0
                        yield update
                pause = self._retry_seconds
            except (ConnectionLost, FeedRefused) as error:
                if isinstance(error, FeedRefused) and not error.is_passing:
                    raise
                logger.warning("the feed is interrupted: %s", error)
                self._failures += 1
                pause = FEED_CLIENT.pause(self._failures)
            await asyncio.sleep(pause)

    async def _updates(self, lines: Lines) -> AsyncIterator[FeedUpdate]:
        """Decode a response: the event stream format of HTML."""
        kind, data, cursor = EVENT, "", self._cursor
        async for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data = value
            elif name == "id":
                cursor = value
            elif name == "retry" and value.isdecimal():
                self._retry_seconds = int(value) / 1000
            elif not line:
                self._cursor = cursor  # not sooner: the message may never be complete
                if data and (update := self._update(kind, msgspec.json.decode(data))):
                    yield update
                kind, data = EVENT, ""

    def _update(self, kind: str, data: Any) -> FeedUpdate | None:
        if kind == END:
            raise FeedRefused(data["status"], data)
        if kind == CUT:
            logger.warning("the feed was cut off before: %s", data["reason"])
            return None
        return FeedUpdate(kind, data, self._cursor)


@asynccontextmanager
async def follow(
    url: str, *, token: str | Callable[[], str] = "", cursor: str = ""
) -> AsyncIterator[FeedFollower]:
    """A feed to iterate over, from a cursor on; each connection asks a function for its token."""
    import httpx

    timeout = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
    async with httpx.AsyncClient(timeout=timeout) as client:

        @asynccontextmanager
        async def connect(headers: Headers) -> AsyncIterator[Lines]:
            bearer = token() if callable(token) else token
            sent = {**headers, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
            try:
                async with client.stream("GET", url, headers=sent) as response:
                    if response.status_code != 200:
                        raise refused(response.status_code, await response.aread())
                    yield response.aiter_lines()
            except httpx.TransportError as error:
                raise ConnectionLost(str(error) or type(error).__name__) from error

        yield FeedFollower(connect, cursor)


def refused(status: int, body: bytes) -> FeedRefused:
    """Convert a response that is not a feed."""
    try:
        return FeedRefused(status, msgspec.json.decode(body, type=dict[str, Any]))
    except msgspec.DecodeError:
        return FeedRefused(status, {})
