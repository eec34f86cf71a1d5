"""FeedSockets: WebSockets that follow aggregates, with access control and limits."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from eventfleet.feeds.feed_hub import TooSlow
from eventfleet.feeds.feed_session import FeedSession, FollowedDomain, SendFrame
from eventfleet.service.shares import LimitReached, Shares
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.timeout import Timeout
from eventfleet.web.access import Access, Grant, find_grant
from eventfleet.web.failure_log import cut_off
from eventfleet.web.problems import (
    BUSY,
    HOST_REFUSED,
    UNAVAILABLE,
    UNKNOWN_DOMAIN,
    RequestRefused,
    invalid,
    problem_response,
    to_refusal,
)
from eventfleet.web.requests import path_part

TOKEN_PREFIX = "bearer."
"""In front of the token of a browser, which can send no header but its subprotocols."""

MAX_SOCKETS = 5_000
MAX_COMMANDS_OF_CALLER = 500
SEND_SECONDS = 10.0
RECHECK_SECONDS = 60.0
"""How often the token of an open socket is checked again: it may have expired."""

POLICY_VIOLATION, TRY_AGAIN, GOING_AWAY = 1008, 1013, 1001
MAX_REASON_BYTES = 123
"""Of a close frame, whose reason can't be longer."""


class FeedPath(NamedTuple):
    """A path of sockets that follow aggregates; of `domain`, where the path itself names none.

    `id_name` is the name of the aggregate's id in the first frame, `subprotocol` the one that a
    client may offer.
    """

    path: str = "/domains/{domain}/{id}/socket"
    domain: str = ""
    id_name: str = "aggregate_id"
    subprotocol: str = "eventfleet.feeds"


class FeedSockets:
    """An ASGI application for the sockets of one path.

    Those of all paths of a process share its limits on open sockets and on their commands.
    """

    def __init__(
        self,
        access: Access,
        followed: Mapping[str, FollowedDomain],
        path: FeedPath,
        opened: Shares,
        commands: Shares,
        origins: Collection[str] = (),
    ) -> None:
        self._access, self._followed, self._origins = access, followed, origins
        self._path, self._opened, self._commands = path, opened, commands

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        try:
            request = _as_request(scope)
            grant = await self._authorize(request)
            followed, after = self._domain_of(request), _after(request.query_params)
            aggregate_id = path_part(request, "id")
            named = request.query_params.get("sender", "") if grant.names_actor else ""
        except Exception as error:
            await websocket.send_denial_response(problem_response(to_refusal(error)))
            return
        offered, subprotocol = scope.get("subprotocols") or [], self._path.subprotocol
        await websocket.accept(subprotocol if subprotocol in offered else None)
        actor, may_write = grant.actor or named, grant.allows(followed.domain.name, "write")
        session = FeedSession(
            followed,
            aggregate_id,
            actor,
            _sender_to(websocket),
            self._commands.hold(grant.caller, 1),
        )
        try:
            with self._opened.hold(grant.caller, 1):
                serving = session.run(_frames(websocket), after, may_write, self._path.id_name)
                await self._serve(websocket, serving, request)
        except LimitReached as error:
            await _close(websocket, TRY_AGAIN, str(error))

    def _domain_of(self, request: Request) -> FollowedDomain:
        name = self._domain_name(request)
        if name not in self._followed:
            known = ", ".join(sorted(self._followed)) or "none"
            raise RequestRefused(
                UNKNOWN_DOMAIN, f"{name!r} is not a domain to follow; known: {known}"
            )
        return self._followed[name]

    def _domain_name(self, request: Request) -> str:
        return self._path.domain or path_part(request, "domain")

    async def _serve(
        self, websocket: WebSocket, serving: Coroutine[Any, Any, None], request: Request
    ) -> None:
        """Serve until the client leaves, its token expires, or it is too slow."""
        task = asyncio.create_task(serving)
        code, reason = GOING_AWAY, ""
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=RECHECK_SECONDS)
                if not task.done():
                    await self._authorize(request)
            task.result()
        except RequestRefused as error:
            later = error.problem_type in (BUSY, UNAVAILABLE)
            code, reason = TRY_AGAIN if later else POLICY_VIOLATION, error.detail
        except TooSlow as error:
            code, reason = TRY_AGAIN, str(cut_off(error, request))
        except ServerUnavailable as error:
            cut_off(error, request)
            code, reason = TRY_AGAIN, "the service cannot answer for now"
        except WebSocketDisconnect:
            pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await _close(websocket, code, reason)

    async def _authorize(self, request: Request) -> Grant:
        grant = await find_grant(self._access, request)
        grant.require(self._domain_name(request), "read")
        grant.require_aggregate(self._domain_name(request), path_part(request, "id"))
        if not self._access.secured:
            _require_origin(request, self._origins)
        return grant


def feed_sockets(
    access: Access,
    followed: Mapping[str, FollowedDomain],
    own_paths: Iterable[FeedPath] = (),
    origins: Collection[str] = (),
) -> dict[str, FeedSockets]:
    """Returns the sockets by path: that of all domains, and a team's own. Pages of these `origins`
    may open them without tokens, too."""
    opened = Shares(MAX_SOCKETS, "open sockets")
    commands = Shares(MAX_SOCKETS, "commands of sockets in progress", MAX_COMMANDS_OF_CALLER)
    paths = [FeedPath(), *own_paths] if followed else []
    return {
        path.path: FeedSockets(access, followed, path, opened, commands, origins) for path in paths
    }


def _as_request(scope: Scope) -> Request:
    """The handshake as a request; a token among the subprotocols is in the header."""
    headers = [*scope["headers"]]
    names = {name for name, _ in headers}
    for offered in scope.get("subprotocols") or ():
        if offered.startswith(TOKEN_PREFIX) and b"authorization" not in names:
            token = offered.removeprefix(TOKEN_PREFIX)
            headers.append((b"authorization", f"Bearer {token}".encode("latin-1", "replace")))
    return Request({**scope, "type": "http", "method": "GET", "headers": headers})


def _require_origin(request: Request, allowed: Collection[str]) -> None:
    """Refuse the scripts of other sites: unlike requests, a browser lets them open sockets."""
    origin = request.headers.get("origin")
    is_own = not origin or urlsplit(origin).netloc == request.headers.get("host")
    if not is_own and origin not in allowed:
        raise RequestRefused(HOST_REFUSED, f"the page's origin {origin!r} is another")


def _after(parameters: QueryParams) -> int | None:
    text = parameters.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid("after", "must be a version, a number from 0 on")
    return int(text)


async def _frames(websocket: WebSocket) -> AsyncIterator[str | bytes]:
    """The client's frames, until it leaves."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        yield message.get("text") or message.get("bytes") or ""


def _sender_to(websocket: WebSocket) -> SendFrame:
    """Sends frames, one at a time; TooSlow where the client takes none."""
    lock = asyncio.Lock()

    async def send(frame: bytes) -> None:
        try:
            with Timeout(SEND_SECONDS):
                async with lock:
                    await websocket.send_text(frame.decode())
        except TimeoutError:
            raise TooSlow(f"the client took no frame for {SEND_SECONDS:g} s") from None

    return send


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.application_state is WebSocketState.CONNECTED:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await websocket.close(
                    code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
                )
        except (RuntimeError, TimeoutError, OSError, WebSocketDisconnect):
            return
