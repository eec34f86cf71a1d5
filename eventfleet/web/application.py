"""The ASGI application: routes made from the operations, with access control, limits, metrics."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from time import perf_counter
from typing import Any
from urllib.parse import quote

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.shares import Shares
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.errors import EventfleetError
from eventfleet.web import commands, dead_letters, listings, probes, queries, views
from eventfleet.web.access import (
    ANONYMOUS,
    NOTHING,
    Access,
    Grant,
    OpenAccess,
    aggregate_refused,
    find_grant,
)
from eventfleet.web.access_log import SUBJECT_SCOPE_KEY, log_request
from eventfleet.web.context import Limits, RequestContext, ServicesByDomain
from eventfleet.web.disconnect import DisconnectWatch
from eventfleet.web.failure_log import cut_off, log_failure
from eventfleet.web.feed_response import OPENED_AT, FeedResponse
from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.open_feeds import OpenFeeds
from eventfleet.web.openapi import describe
from eventfleet.web.operation import Operation, Right
from eventfleet.web.parameters import query_parameters
from eventfleet.web.problems import INTERNAL_ERROR, problem_response, to_refusal
from eventfleet.web.readiness import Check, Readiness
from eventfleet.web.requests import path_part
from eventfleet.web.schemas import Json

OPERATIONS = [
    *commands.OPERATIONS,
    *queries.OPERATIONS,
    *listings.OPERATIONS,
    *views.OPERATIONS,
    *dead_letters.OPERATIONS,
]
MAX_CACHED_DOCUMENTS = 8
"""OpenAPI documents, one for each path that the application is mounted at."""

EXPOSED_HEADERS = ("ETag", "Preference-Applied", "Retry-After", "WWW-Authenticate")
"""Those of the responses that pages of other origins can read."""

CLIENT_LEFT = 499
"""The status in the metrics of a request whose client left before it was answered."""


class Application:
    """An ASGI application to serve, or to mount at a path of another application."""

    probes: "ProbePages"
    """The probes and metrics alone, without access control: for a port of their own."""

    def __init__(
        self,
        domains: ServicesByDomain,
        access: Access,
        limits: Limits | None = None,
        decider_metrics: DeciderMetrics | None = None,
        checks: Mapping[str, Check] | None = None,
        operations: Sequence[Operation] = (),
        sockets: Mapping[str, ASGIApp] | None = None,
        access_log: bool = False,
        origins: Collection[str] = (),
    ) -> None:
        """`decider_metrics` are served at `/metrics`, with those of the requests. `checks` of the
        servers, by name, decide on `/ready`: each raises where its server does not answer.
        `operations` are served beside those of all domains, and `sockets` by their paths. With an
        `access_log`, each request is logged, but for probes and metrics. Pages of these `origins`
        may send requests from browsers, and read the responses."""
        self._domains, self._access, self._limits = domains, access, limits or Limits()
        requests = Shares(self._limits.concurrent_requests, "concurrent requests")
        self._feeds = OpenFeeds()
        self._metrics = HttpMetrics(
            lambda: requests.held,
            requests.limit,
            decider_metrics or DeciderMetrics(),
            {name: services.commands.outcomes for name, services in domains.items()},
            self._feeds,
        )
        document = lru_cache(maxsize=MAX_CACHED_DOCUMENTS)(self._openapi_document)
        self._access_log = access_log
        own = probes.operations(self._metrics, Readiness(checks or {}), document)
        self._operations = [*OPERATIONS, *operations, *own]
        bodies = Shares(self._limits.bodies_bytes, "bytes of the bodies of concurrent requests")
        shared = self._limits, requests, bodies, self._feeds
        endpoints = [Endpoint(o, domains, access, *shared) for o in self._operations]
        routes = [Route(e.operation.path, e, methods=[e.operation.method]) for e in endpoints]
        socket_routes = [WebSocketRoute(path, app) for path, app in (sockets or {}).items()]
        self._router = Router([*routes, *socket_routes], redirect_slashes=False)
        self._with_cors = _cors(origins, {o.method for o in self._operations})
        self._answer = self._with_cors(self._router)
        self.probes = ProbePages(
            Endpoint(o, domains, OpenAccess(), *shared) for o in own if o.name in probes.PAGES
        )

    def end_feeds(self) -> None:
        """Ends all feeds: the process stops, and their clients go on at another one."""
        self._feeds.stopping = True
        for services in self._domains.values():
            if services.feed:
                services.feed.wake_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {"app": self, **scope, "path": _raw_path(scope)}
        if scope["type"] != "http":
            return await self._router(scope, receive, send)
        started, status = perf_counter(), 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, send_noting_status)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except Exception as error:
            if status and isinstance(error, (ServerUnavailable, TimeoutError)):
                raise cut_off(error, Request(scope)) from None
            if status:
                raise
            response = self._with_cors(_response_to(error, Request(scope)))
            await response(scope, receive, send_noting_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = scope.get(OPENED_AT, perf_counter()) - started
            self._metrics.observe(route, scope["method"], status or 500, seconds)
            if self._access_log and route not in probes.PATHS:
                log_request(scope, route, status or 500, seconds)

    def _openapi_document(self, root_path: str) -> Json:
        return describe(self._operations, self._domains, self._access.secured, root_path)


class Endpoint:
    """An ASGI application that responds to the requests to one operation; errors pass through."""

    def __init__(
        self,
        operation: Operation,
        domains: ServicesByDomain,
        access: Access,
        limits: Limits,
        requests: Shares,
        bodies: Shares,
        feeds: OpenFeeds,
    ) -> None:
        self.operation = operation
        self._domains, self._access, self._limits = domains, access, limits
        self._requests, self._bodies, self._feeds = requests, bodies, feeds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, operation = Request(scope, receive, send), self.operation
        if operation.domain:
            request.path_params["domain"] = operation.domain
        grant = await self._authorize(request)
        with self._requests.hold(grant.caller, 1) if operation.limited else nullcontext():
            response = await self._respond(request, grant)
            if not isinstance(response, FeedResponse):
                await response(scope, receive, send)
        if isinstance(response, FeedResponse):
            await response(scope, receive, send)

    async def _respond(self, request: Request, grant: Grant) -> Response:
        operation = self.operation
        parameters = query_parameters(request, operation.parameters)
        with Timeout(self._limits.timeout_seconds) as timeout:
            context = RequestContext(
                *(request, self._domains, grant, self._limits, parameters, timeout, self._bodies),
                *(self._feeds, partial(self._authorize, request)),
            )
            with DisconnectWatch(request.receive) if operation.method == "GET" else nullcontext():
                return await operation.handler(context)

    async def _authorize(self, request: Request) -> Grant:
        right = self.operation.right
        grant = await self._grant(request, right)
        request.scope[SUBJECT_SCOPE_KEY] = grant.actor
        if right in ("read", "write", "operate"):
            grant.require(path_part(request, "domain"), right)
        elif right == "metrics":
            grant.require_metrics()
        if grant.bound_to is not None and not self.operation.keeps_bounds:
            _require_bounds(grant, request)
        return grant

    async def _grant(self, request: Request, right: Right) -> Grant:
        try:
            return await find_grant(self._access, request) if right else ANONYMOUS
        except EventfleetError:
            if right != "optional":
                raise
            return NOTHING


def _require_bounds(grant: Grant, request: Request) -> None:
    """Raises RequestRefused for a bound caller, unless the path names one of its aggregates."""
    if not {"domain", "id"} <= request.path_params.keys():
        raise aggregate_refused("the caller's rights are bound to aggregates; this has all of them")
    grant.require_aggregate(path_part(request, "domain"), path_part(request, "id"))


class ProbePages:
    """An ASGI application of `/live`, `/ready` and `/metrics`, open to whoever reaches it.

    Its requests are not among the metrics of the requests.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        routes = [Route(e.operation.path, e, methods=[e.operation.method]) for e in endpoints]
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._router(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:
            await _response_to(error, Request(scope))(scope, receive, send)


def _cors(origins: Collection[str], methods: Collection[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Returns what lets pages of these origins use an ASGI application; none, without origins."""
    if not origins:
        return lambda app: app
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=sorted(methods),
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


def _response_to(error: Exception, request: Request) -> Response:
    """Converts an error in a frame of its own: one that is kept in a frame of its traceback is
    freed by the garbage collector only, and the request's body with it."""
    refusal = to_refusal(error)
    if refusal.problem_type.status == INTERNAL_ERROR:
        log_failure(error, refusal, request)
    return problem_response(refusal)


def _raw_path(scope: Scope) -> str:
    """Returns the path before decoding, so that an encoded slash does not separate parts."""
    raw: Any = scope.get("raw_path")
    return raw.decode("ascii", "replace") if raw else quote(scope["path"])
