"""Responses with a JSON body, and streams of newline-delimited JSON."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eventfleet.web.bodies import JSON, NDJSON
from eventfleet.web.disconnect import DisconnectWatch

CHUNK_BYTES = 65_536

_JSON_HEADER = (b"content-type", JSON.encode())
_encode = msgspec.json.Encoder().encode


class JsonResponse(Response):
    """A response with a JSON body, usually without headers of its own."""

    media_type = JSON

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        # Most responses need these two headers only; starlette's general way costs more.
        if headers:
            super().init_headers(headers)
        else:
            self.raw_headers = [(b"content-length", b"%d" % len(self.body)), _JSON_HEADER]


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Encodes the body as JSON."""
    return JsonResponse(_encode(body), status, headers)


class NdjsonResponse(Response):
    """Streams lines while they are read, in chunks of about 64 KiB.

    Reading a line and sending a chunk may take `timeout_seconds` each; after a chunk other tasks
    have their turn. A stream that fails ends its connection without the last chunk, so that the
    client sees that it is incomplete. Reading stops when the client disconnects.
    """

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[bytes], timeout_seconds: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._lines, self._timeout_seconds, self._first_line = lines, timeout_seconds, b""

    async def read_first_line(self) -> bool:
        """Reads ahead, while an error can still become a problem; returns False if it is empty."""
        self._first_line = await anext(self._lines, b"")
        return bool(self._first_line)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        with DisconnectWatch(receive):
            async for chunk in self._chunks():
                await self._send(send, chunk)
                await asyncio.sleep(0)  # neither reading nor sending need have waited
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise TimeoutError("the client does not take the lines fast enough") from None

    async def _chunks(self) -> AsyncIterator[bytes]:
        chunk = bytearray()
        line = self._first_line
        while line:
            chunk += line + b"\n"
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
            async with asyncio.timeout(self._timeout_seconds):
                line = await anext(self._lines, b"")
        if chunk:
            yield bytes(chunk)
