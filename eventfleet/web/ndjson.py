"""Newline-delimited JSON, streamed."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eventfleet.web.bodies import LINES

PIECE = 65_536


class NdjsonResponse(Response):
    """Lines as they are read. Each piece has `seconds` to be read and taken; one that has not
    ends the connection, so that a client sees that the stream is not whole. For a client that has
    gone nothing more is read."""

    media_type = LINES

    def __init__(self, lines: AsyncIterator[bytes], seconds: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._lines, self._seconds, self._first = lines, seconds, b""

    async def begin(self) -> bool:
        """Read the first line, while an error can still be told; whether there is one."""
        self._first = await anext(self._lines, b"")
        return bool(self._first)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        gone = asyncio.create_task(_gone(receive))
        try:
            async for piece in self._pieces():
                if gone.done():
                    return
                async with asyncio.timeout(self._seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncIterator[bytes]:
        piece = bytearray()
        line = self._first
        while line:
            piece += line + b"\n"
            if len(piece) >= PIECE:
                yield bytes(piece)
                piece.clear()
            async with asyncio.timeout(self._seconds):
                line = await anext(self._lines, b"")
        if piece:
            yield bytes(piece)


async def _gone(receive: Receive) -> None:
    """Until the client has ended the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
