"""FeedResponse: streams a feed to one client as server-sent events, until it leaves."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eventfleet.feeds.event_feed import EventFeed, LoadAnew
from eventfleet.feeds.feed_client import FeedClient, FeedMessage
from eventfleet.feeds.feed_hub import TooSlow
from eventfleet.stores.errors import InvalidCursor
from eventfleet.stores.timeout import Timeout
from eventfleet.web.bodies import EVENT_STREAM
from eventfleet.web.disconnect import DisconnectWatch
from eventfleet.web.failure_log import cut_off, log_failure
from eventfleet.web.open_feeds import OpenFeeds
from eventfleet.web.problems import INTERNAL_ERROR, invalid, to_details, to_refusal

HEARTBEAT_SECONDS = 15.0
RECHECK_SECONDS = 60.0
"""How often the caller's token is checked again: it may have expired."""
SEND_SECONDS = 10.0
MAX_UNREAD_BYTES = 256 * 1024
CHUNK_BYTES = 65_536
RETRY_MILLISECONDS = 1_000, 3_000
"""When a client connects again: at other times than others that were cut off with it."""

OPENED_AT = "eventfleet.feed_opened_at"
"""In the scope of a feed's request: when its response began, by `perf_counter`."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_encode = msgspec.json.Encoder().encode


class FeedRequest(NamedTuple):
    """A client's request for a feed from a `cursor` on; `anew`: from where without one.

    `recheck` raises RequestRefused once the caller has lost its rights.
    """

    request: Request
    caller: str | None
    cursor: str
    anew: str
    recheck: Callable[[], Awaitable[Any]]


class FeedResponse(Response):
    """Server-sent events: the data of a message is an event, its id the cursor behind it.

    Other messages have types: `reload` (why the client can't go on from its cursor, so that what
    follows begins anew), `cut` (why it was cut off before), `end` (the problem that ends this).
    """

    media_type = EVENT_STREAM

    def __init__(
        self, feed: EventFeed, client: FeedClient, asked: FeedRequest, opened: OpenFeeds
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._feed, self._client, self._asked, self._opened = feed, client, asked, opened
        self._has_nothing = not asked.cursor and not asked.anew
        url = asked.request.url
        choice = [each for each in asked.request.query_params.multi_items() if each[0] != "cursor"]
        self._target = f"{url.path}?{choice}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened.shares.hold(self._asked.caller, 1), DisconnectWatch(receive):
            async with self._feed.joined():
                first = await self._begin()
                scope[OPENED_AT] = perf_counter()
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(start)
                try:
                    await self._send(send, first)
                    await self._stream(send)
                except TooSlow as error:
                    self._opened.note_cut(self._asked.caller, self._target, "slow", str(error))
                    raise cut_off(error, self._asked.request) from None
                except Exception as error:
                    await self._end(send, error)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> bytes:
        retry = b"retry: %d\n\n" % random.randint(*RETRY_MILLISECONDS)
        reason = self._opened.take_cut(self._asked.caller, self._target)
        cut = message("cut", {"reason": reason}) if reason else b""
        try:
            await self._client.open(self._asked.cursor or self._asked.anew)
            told = heartbeat(self._client.cursor())
        except LoadAnew as error:
            told = await self._reload(error)
        except InvalidCursor as error:
            raise invalid("cursor", str(error)) from None
        return retry + cut + told

    async def _reload(self, reason: LoadAnew) -> bytes:
        """Open the client anew, in the store's present life; return the message that tells of it.

        A client that has nothing from here yet need not be told.
        """
        await self._feed.next_round()
        await self._client.open(self._asked.anew)
        cursor = self._client.cursor() if self._asked.anew else ""
        has_nothing, self._has_nothing = self._has_nothing, not self._asked.anew
        return b"" if has_nothing else message("reload", {"reason": str(reason)}, cursor)

    async def _stream(self, send: Send) -> None:
        clock, client = asyncio.get_running_loop().time, self._client
        sent = checked = clock()
        while not self._opened.stopping:
            try:
                messages = await client.next()
            except LoadAnew as error:
                await self._send(send, await self._reload(error))
                continue
            for chunk in chunks(messages):
                self._has_nothing = False
                await self._send(send, chunk)
                sent = clock()
            if not messages and not await client.wait(HEARTBEAT_SECONDS - (clock() - sent)):
                await self._send(send, heartbeat(client.cursor()))
                sent = clock()
            if clock() - checked > RECHECK_SECONDS:
                await self._asked.recheck()
                checked = clock()
            if (unread := client.unread_bytes(MAX_UNREAD_BYTES)) > MAX_UNREAD_BYTES:
                raise TooSlow(f"the client left {unread} bytes unread")

    async def _send(self, send: Send, chunk: bytes) -> None:
        try:
            with Timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise TooSlow(f"the client took nothing for {SEND_SECONDS:g} s") from None

    async def _end(self, send: Send, error: Exception) -> None:
        """Tell the client why its feed ends: it may connect again."""
        refusal = to_refusal(error)
        if refusal.problem_type.status == INTERNAL_ERROR:
            log_failure(error, refusal, self._asked.request)
        self._opened.cuts[refusal.problem_type.name] += 1
        with suppress(TooSlow):
            await self._send(send, message("end", to_details(refusal)))


def message(kind: str, data: Any, cursor: str | None = None) -> bytes:
    """Encode a message of a type."""
    place = b"" if cursor is None else b"id: %b\n" % cursor.encode()
    return b"event: %b\n%bdata: %b\n\n" % (kind.encode(), place, _encode(data))


def heartbeat(cursor: str) -> bytes:
    """Encode what brings no event, but keeps the connection and moves the client's cursor."""
    return b"id: %b\n\n" % cursor.encode() if cursor else b":\n\n"


def chunks(messages: Sequence[FeedMessage]) -> Iterator[bytes]:
    """Encode events, in chunks of about CHUNK_BYTES."""
    chunk = bytearray()
    for each in messages:
        chunk += b"id: %b\ndata: %b\n\n" % (each.cursor.encode(), each.data)
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
