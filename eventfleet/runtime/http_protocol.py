"""HttpProtocol: uvicorn's protocol, with limits on the head of a request.

uvicorn itself bounds neither the time nor the size of a request's head: a connection that sends
nothing, or half of a head, stays open for ever, and a head may fill the memory.
"""

from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the begin of a connection, or of a further request on it, to the end of the head."""

MAX_HEADERS = 100
MAX_HEAD_BYTES = 65_536
"""Room for a URL with the longest cursor, and a token."""

AMBIGUOUS = HTTPStatus.BAD_REQUEST, "more than one Host header"
LATE = HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not arrive in time"
TOO_LARGE = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the head of the request has more than {MAX_HEAD_BYTES} bytes",
)
TOO_MANY = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEADERS} headers"


class HttpProtocol(HttpToolsProtocol):
    """Closes connections whose requests' heads come too late, are too large or ambiguous."""

    _in_head = True
    """The parser is before or in a head, not in a body."""

    _head_bytes = 0
    _timer: TimerHandle | None = None
    _refusal: tuple[HTTPStatus, str] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or not self._head_bytes or self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = TOO_LARGE
            self.send_400_response("")
        elif self._timer is None:
            self._expect_head()

    def on_message_begin(self) -> None:
        self._head_bytes = 1  # what came before it, in the same data, is of other requests
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which nothing here reads
        if len(self.headers) == MAX_HEADERS:
            self._refuse(TOO_MANY)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        names = [name for name, _ in self.headers]
        if names.count(b"host") > 1:
            self._refuse(AMBIGUOUS)
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(TOO_LARGE)
        if len(self.url) > MAX_HEAD_BYTES:
            self._refuse(TOO_LARGE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and self._timer is None:
            self._expect_head()  # the rest of the body, which nobody reads, has no more time

    def send_400_response(self, msg: str) -> None:
        """Refuses the request, for its own reason if it has one, and closes the connection."""
        self._stop_timer()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            status, reason = self._refusal or (HTTPStatus.BAD_REQUEST, msg)
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
                "content-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(reason) + 1}\r\n\r\n"
            )
            self.transport.write(f"{head}{reason}\n".encode())
        self.transport.close()

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._end_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_late(self) -> None:
        """Closes the connection; without a word if nothing of a head has come."""
        if self._in_head and self._head_bytes and not self.transport.is_closing():
            self._refusal = LATE
            self.send_400_response("")
        self.transport.close()

    def _refuse(self, refusal: tuple[HTTPStatus, str]) -> None:
        self._refusal = refusal
        raise HttpParserError(refusal[1])
