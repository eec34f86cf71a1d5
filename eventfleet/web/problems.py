"""Problem details (RFC 9457): the one place where an error becomes a status and a title."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from eventfleet.deciders.failures import replay_failed
from eventfleet.service.parked_aggregates import NotParked
from eventfleet.service.shares import LimitReached
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.view_reader import UnknownView
from eventfleet.stores.errors import InvalidCursor, ServerUnavailable
from eventfleet.topics.errors import EventfleetError
from eventfleet.web.bodies import PROBLEM_JSON, ProblemDetails

INTERNAL_ERROR = 500
TYPE_PREFIX = "urn:problem-type:eventfleet:"
RETRY_AFTER = {"Retry-After": "1"}
BEARER_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class ProblemType(NamedTuple):
    """A type of problem: the end of its URI, status, title, and headers of its responses."""

    name: str
    status: int
    title: str
    headers: Mapping[str, str] = {}

    @property
    def type(self) -> str:
        return TYPE_PREFIX + self.name


NO_SUCH_PATH = ProblemType("no-such-path", 404, "The path does not exist")
UNKNOWN_DOMAIN = ProblemType("unknown-domain", 404, "The domain does not exist")
UNKNOWN_COMMAND = ProblemType("unknown-command", 404, "The domain has no such command")
UNKNOWN_VIEW = ProblemType("unknown-view", 404, "The domain has no such view")
UNKNOWN_AGGREGATE = ProblemType("unknown-aggregate", 404, "The aggregate has no events")
NO_FEED = ProblemType("no-feed", 404, "The domain has no feed here")
NO_SNAPSHOT = ProblemType("no-snapshot", 404, "The aggregate has no snapshot yet")
UNKNOWN_VERSION = ProblemType(
    "unknown-version", 404, "The aggregate has no state at this version or time"
)
METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "The path does not support this method")
BODY_LATE = ProblemType(
    "body-late", 408, "The request body did not arrive in time", {"Connection": "close"}
)
TOKEN_REFUSED = ProblemType(
    "token-refused", 401, "A valid bearer token is required", BEARER_CHALLENGE
)
SCOPE_MISSING = ProblemType("scope-missing", 403, "The token lacks the required scope")
AGGREGATE_REFUSED = ProblemType("aggregate-refused", 403, "The token is bound to other aggregates")
REJECTED = ProblemType("rejected", 409, "A rule of the domain rejects the command")
NOT_PARKED = ProblemType("not-parked", 409, "The role does not park the aggregate at this version")
CONFLICT = ProblemType("conflict", 409, "Concurrent changes won every retry")
VERSION_CONFLICT = ProblemType("version-conflict", 412, "The aggregate is at another version")
TOO_LARGE = ProblemType("too-large", 413, "The request body is too large")
NOT_JSON = ProblemType("not-json", 415, "The Content-Type must be application/json")
HOST_REFUSED = ProblemType(
    "host-refused", 421, "Without tokens only requests to a loopback host name are answered"
)
INVALID = ProblemType("invalid", 422, "The request is invalid")
ID_REUSED = ProblemType("id-reused", 422, "The command id belongs to another command")
BUSY = ProblemType("busy", 429, "Too many concurrent requests", RETRY_AFTER)
BROKEN = ProblemType("broken", 500, "Internal error")
REPLAY_FAILED = ProblemType("replay-failed", 500, "An event cannot be replayed")
DECIDE_FAILED = ProblemType("decide-failed", 500, "The domain failed to decide the command")
AGGREGATE_PARKED = ProblemType("aggregate-parked", 500, "Append parks an event of the aggregate")
UNAVAILABLE = ProblemType("unavailable", 503, "The service cannot answer for now", RETRY_AFTER)
FAILURES = {kind.name: kind for kind in (REPLAY_FAILED, DECIDE_FAILED, AGGREGATE_PARKED)}
FAILURES["newer-schema"] = UNAVAILABLE
"""By the `problem` of a Failed outcome."""


class RequestRefused(EventfleetError):
    """A request is not carried out; the response is a problem of this type.

    `members` are further members of the problem, such as `field` and `reason`. `traceback` is for
    the log, where the refusal itself has none of interest.
    """

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        traceback: str = "",
        **members: str | int,
    ) -> None:
        super().__init__(detail or problem_type.title)
        self.traceback = traceback
        self.problem_type, self.detail, self.members = problem_type, detail, members
        self.headers = {**problem_type.headers, **(headers or {})}


def invalid(field: str, reason: str) -> RequestRefused:
    """Returns the error for one invalid part of a request."""
    return RequestRefused(INVALID, f"{field}: {reason}", field=field, reason=reason)


def to_details(error: RequestRefused) -> ProblemDetails:
    """Converts a refusal to what the client is told."""
    kind = error.problem_type
    return ProblemDetails(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=error.detail,
        **error.members,  # type: ignore[arg-type]
    )


def problem_response(error: RequestRefused) -> Response:
    """Builds the response of a refused request."""
    body = msgspec.json.encode(to_details(error))
    return Response(body, error.problem_type.status, error.headers, PROBLEM_JSON)


def _from_http(error: HTTPException) -> RequestRefused:
    kind = {404: NO_SUCH_PATH, 405: METHOD_NOT_ALLOWED}.get(error.status_code, INVALID)
    return RequestRefused(kind, headers=error.headers)


def _replay_failed(error: ReplayFailed) -> RequestRefused:
    failed = replay_failed(error.domain, error)
    return RequestRefused(FAILURES[failed.problem], failed.reason)


CONVERSIONS: dict[type[Exception], Callable[[Any], RequestRefused]] = {
    RequestRefused: lambda error: error,
    HTTPException: _from_http,
    ServerUnavailable: lambda error: RequestRefused(UNAVAILABLE, str(error)),
    LimitReached: lambda error: RequestRefused(BUSY, str(error)),
    TimeoutError: lambda error: RequestRefused(UNAVAILABLE, "no answer within the time limit"),
    ReplayFailed: lambda error: _replay_failed(error),
    UnknownView: lambda error: RequestRefused(UNKNOWN_VIEW, str(error)),
    InvalidCursor: lambda error: invalid("from", str(error)),
    NotParked: lambda error: RequestRefused(NOT_PARKED, str(error)),
    Exception: lambda error: RequestRefused(BROKEN),
}


def to_refusal(error: Exception) -> RequestRefused:
    """Converts any error to one that has a response; details of unforeseen ones stay inside."""
    return next(CONVERSIONS[kind] for kind in type(error).__mro__ if kind in CONVERSIONS)(error)
