"""Errors as problems (RFC 9457): the one place where an error becomes a status."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from eventfleet.deciders.command_attempts import DecideFailed
from eventfleet.states.live_state import ReplayFailed
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.topics.errors import EventfleetError
from eventfleet.web.bodies import PROBLEM, ProblemBody

PREFIX = "urn:problem-type:eventfleet:"
AGAIN = {"Retry-After": "1"}
BEARER = {"WWW-Authenticate": "Bearer"}


class ProblemType(NamedTuple):
    """A type of problem, its status, its title, and headers that go with it."""

    name: str
    status: int
    title: str
    headers: Mapping[str, str] = {}

    @property
    def type(self) -> str:
        return PREFIX + self.name


NO_PATH = ProblemType("no-such-path", 404, "There is nothing at this path")
NO_DOMAIN = ProblemType("unknown-domain", 404, "There is no such domain")
NO_COMMAND = ProblemType("unknown-command", 404, "The domain has no such command")
NO_AGGREGATE = ProblemType("unknown-aggregate", 404, "No event of this aggregate is stored")
NO_SNAPSHOT = ProblemType("no-snapshot", 404, "The aggregate has no snapshot yet")
NO_VERSION = ProblemType("unknown-version", 404, "The aggregate has no state there")
METHOD = ProblemType("method-not-allowed", 405, "The path does not take this method")
TOKEN = ProblemType("token-refused", 401, "A valid bearer token is needed", BEARER)
SCOPE = ProblemType("scope-missing", 403, "The token does not allow this")
REJECTED = ProblemType("rejected", 409, "A rule of the domain forbids the command")
CONFLICT = ProblemType("conflict", 409, "Others changed the aggregate at each try")
TOO_LARGE = ProblemType("too-large", 413, "The body is too large")
NOT_JSON = ProblemType("not-json", 415, "The body must be JSON, and say so")
HOST = ProblemType("host-refused", 421, "Without tokens only this machine's own names are answered")
INVALID = ProblemType("invalid", 422, "Something in the request can't be taken")
ID_REUSED = ProblemType("id-reused", 422, "The command's id belongs to another command")
BUSY = ProblemType("busy", 429, "Too many requests at once", AGAIN)
BROKEN = ProblemType("broken", 500, "The service has a fault")
REPLAY = ProblemType("replay-failed", 500, "An event can't be replayed")
DECIDE = ProblemType("decide-failed", 500, "The domain could not decide the command")
UNAVAILABLE = ProblemType("unavailable", 503, "A server did not answer in time", AGAIN)


class RequestRefused(EventfleetError):
    """A request that is not done: what kind of problem, and what is to be said of it."""

    def __init__(
        self,
        kind: ProblemType,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> None:
        super().__init__(detail or kind.title)
        self.kind, self.detail, self.more = kind, detail, more
        self.headers = {**kind.headers, **(headers or {})}


def invalid(field: str, reason: str) -> RequestRefused:
    """What is wrong with one part of a request."""
    return RequestRefused(INVALID, f"{field}: {reason}", field=field, reason=reason)


def response(error: RequestRefused) -> Response:
    """The problem that an error is."""
    kind = error.kind
    problem = ProblemBody(
        type=kind.type, title=kind.title, status=kind.status, detail=error.detail, **error.more
    )
    return Response(msgspec.json.encode(problem), kind.status, error.headers, PROBLEM)


def _http(error: HTTPException) -> RequestRefused:
    kind = {404: NO_PATH, 405: METHOD}.get(error.status_code, INVALID)
    return RequestRefused(kind, headers=error.headers)


MEANINGS: dict[type[Exception], Callable[[Any], RequestRefused]] = {
    RequestRefused: lambda error: error,
    HTTPException: _http,
    ClientDisconnect: lambda error: invalid("body", "has no end"),
    ServerUnavailable: lambda error: RequestRefused(UNAVAILABLE, str(error)),
    TimeoutError: lambda error: RequestRefused(UNAVAILABLE, "not answered in time"),
    ReplayFailed: lambda error: RequestRefused(REPLAY, str(error)),
    DecideFailed: lambda error: RequestRefused(DECIDE, str(error)),
    Misconfigured: lambda error: RequestRefused(BROKEN, str(error)),
    Exception: lambda error: RequestRefused(BROKEN),
}


def meaning(error: Exception) -> RequestRefused:
    """What an error is for the caller."""
    return next(MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS)(error)
