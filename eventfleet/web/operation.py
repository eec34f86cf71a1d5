"""Operations of the service: route and description come from the same declaration."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from eventfleet.web.context import RequestContext
from eventfleet.web.parameters import QueryParameters
from eventfleet.web.problems import ProblemType

Handler = Callable[[RequestContext], Awaitable[Response]]
Right = Literal["read", "write", "operate", "metrics", "token", "optional", ""]


class Operation(NamedTuple):
    """An operation of the service.

    `right` is the scope needed in the path's domain, or in `domain` where the path names none;
    "metrics": the one for metrics; "token": any valid token; "optional": none, and a caller without
    a valid token is granted nothing; "": none. `responses` has the type of the body by status;
    `str` is plain text. `body` is the type of the request's body. The handler's docstring is the
    summary and the description. Requests to an operation that is not `limited` are answered however
    many others are in progress. A caller that is bound to aggregates gets an answer where the
    path's `{id}` is one of them, and elsewhere only from a handler that `keeps_bounds` by itself.
    """

    name: str
    method: str
    path: str
    right: Right
    handler: Handler
    responses: Mapping[int, Any]
    parameters: type[QueryParameters] = QueryParameters
    problems: tuple[ProblemType, ...] = ()
    headers: tuple[str, ...] = ()
    deprecated: bool = False
    limited: bool = True
    domain: str = ""
    body: Any = None
    keeps_bounds: bool = False
