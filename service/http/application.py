"""The ASGI application: routes made of the operations, with access, limits and metrics around."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.http import commands, listings, own, queries
from service.http.access import ANYONE, EVERYTHING, Access
from service.http.asked import parameters, part
from service.http.call import Call, Operation
from service.http.metrics import HttpMetrics
from service.http.openapi import describe
from service.http.problems import BUSY, HANDLERS, Refused, response
from service.http.schemas import Json
from service.http.served import Limits, ServedDomains
from service.tallies import Tallies

OPERATIONS = [*commands.OPERATIONS, *queries.OPERATIONS, *listings.OPERATIONS]
ROOTS = 8
UNBOUNDED = ("/live", "/ready", "/metrics")

Answer = Callable[[Request], Awaitable[Response]]


class Application:
    """An ASGI application to serve, or to mount in another: its path is then left out."""

    def __init__(
        self,
        domains: ServedDomains,
        access: Access,
        limits: Limits | None = None,
        tallies: Tallies | None = None,
    ) -> None:
        """`tallies`: of the deciders, for the page of metrics."""
        self._domains, self._access, self._limits = domains, access, limits or Limits()
        self._in_hand = 0
        self._metrics = HttpMetrics(lambda: self._in_hand, tallies or Tallies())
        description = lru_cache(maxsize=ROOTS)(self._description)
        self._operations = [*OPERATIONS, *own.operations(self._metrics, description)]
        routes = [Route(o.path, self._endpoint(o), methods=[o.method]) for o in self._operations]
        self._routes = Starlette(routes=routes, exception_handlers=HANDLERS)
        self._routes.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._routes(scope, receive, send)
        scope = dict(scope, path=_raw_path(scope))
        started, status = perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._bounded(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(route, scope["method"], status, perf_counter() - started)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith(UNBOUNDED):
            return await self._routes(scope, receive, send)
        if self._in_hand >= self._limits.requests:
            return await response(Refused(BUSY))(scope, receive, send)
        self._in_hand += 1
        try:
            await self._routes(scope, receive, send)
        finally:
            self._in_hand -= 1

    def _endpoint(self, operation: Operation) -> "Endpoint":
        async def answer(request: Request) -> Response:
            grant = self._access.grant(request) if operation.right else ANYONE
            if operation.right in ("read", "write"):
                grant.need(part(request, "domain"), operation.right)
            elif operation.right == "everything":
                grant.need(EVERYTHING, "read")
            asked = parameters(request, operation.parameters)
            async with asyncio.timeout(self._limits.seconds) as bound:
                call = Call(request, self._domains, grant, self._limits, asked, bound)
                return await operation.handle(call)

        return Endpoint(answer)

    def _description(self, root: str) -> Json:
        return describe(self._operations, self._domains, self._access.secured, root)


class Endpoint:
    """An ASGI application that answers each request; what is raised passes through."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


def _raw_path(scope: Scope) -> str:
    """The path before its decoding, so that an encoded slash divides nothing."""
    raw: Any = scope.get("raw_path")
    return raw.decode("ascii", "replace") if raw else quote(scope["path"])
