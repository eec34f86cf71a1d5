"""The ASGI application: routes made of the operations, with access, limits and metrics around."""

from functools import lru_cache
from time import perf_counter
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from eventfleet.deciders.timeout import Timeout
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.web import commands, listings, probes, queries
from eventfleet.web.access import ANYONE, EVERYTHING, Access, Grant
from eventfleet.web.context import Limits, ServicesByDomain
from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.openapi import describe
from eventfleet.web.operation import Operation, RequestContext
from eventfleet.web.parameters import parameters, part
from eventfleet.web.problems import BROKEN, BUSY, RequestRefused, meaning, response
from eventfleet.web.schemas import Json

OPERATIONS = [*commands.OPERATIONS, *queries.OPERATIONS, *listings.OPERATIONS]
ROOTS = 8
UNBOUNDED = ("/live", "/ready", "/metrics")


class Application:
    """An ASGI application to serve, or to mount in another: its path is then left out."""

    def __init__(
        self,
        domains: ServicesByDomain,
        access: Access,
        limits: Limits | None = None,
        tallies: DeciderMetrics | None = None,
    ) -> None:
        """`tallies`: of the deciders, for the page of metrics."""
        self._domains, self._access, self._limits = domains, access, limits or Limits()
        self._in_hand = 0
        self._metrics = HttpMetrics(lambda: self._in_hand, tallies or DeciderMetrics())
        description = lru_cache(maxsize=ROOTS)(self._description)
        self._operations = [*OPERATIONS, *probes.operations(self._metrics, description)]
        endpoints = [Endpoint(o, domains, access, self._limits) for o in self._operations]
        routes = [Route(e.operation.path, e, methods=[e.operation.method]) for e in endpoints]
        self._routes = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._routes(scope, receive, send)
        scope = {"app": self, **scope, "path": _raw_path(scope)}
        started, status = perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._bounded(scope, receive, watched)
        except Exception as error:
            if status:
                raise
            problem = meaning(error)
            await response(problem)(scope, receive, watched)
            if problem.kind is BROKEN:
                raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = perf_counter() - started
            self._metrics.answered(route, scope["method"], status or 500, seconds)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith(UNBOUNDED):
            return await self._routes(scope, receive, send)
        if self._in_hand >= self._limits.requests:
            raise RequestRefused(BUSY)
        self._in_hand += 1
        try:
            await self._routes(scope, receive, send)
        finally:
            self._in_hand -= 1

    def _description(self, root: str) -> Json:
        return describe(self._operations, self._domains, self._access.secured, root)


class Endpoint:
    """An ASGI application that answers the requests to one operation; what is raised passes."""

    def __init__(
        self, operation: Operation, domains: ServicesByDomain, access: Access, limits: Limits
    ) -> None:
        self.operation = operation
        self._domains, self._access, self._limits = domains, access, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, operation = Request(scope, receive, send), self.operation
        grant = self._granted(request)
        asked = parameters(request, operation.parameters)
        with Timeout(self._limits.seconds) as bound:
            call = RequestContext(request, self._domains, grant, self._limits, asked, bound)
            answer = await operation.handle(call)
        await answer(scope, receive, send)

    def _granted(self, request: Request) -> Grant:
        right = self.operation.right
        grant = self._access.grant(request) if right else ANYONE
        if right == "read" or right == "write":
            grant.need(part(request, "domain"), right)
        elif right == "everything":
            grant.need(EVERYTHING, "read")
        return grant


def _raw_path(scope: Scope) -> str:
    """The path before its decoding, so that an encoded slash divides nothing."""
    raw: Any = scope.get("raw_path")
    return raw.decode("ascii", "replace") if raw else quote(scope["path"])
