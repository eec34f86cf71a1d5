"""One request to one operation, as its handler sees it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from eventfleet.deciders.timeout import Timeout
from eventfleet.web.access import Grant
from eventfleet.web.bodies import JSON
from eventfleet.web.context import DomainServices, Limits, ServicesByDomain
from eventfleet.web.parameters import Parameters, part
from eventfleet.web.problems import NO_AGGREGATE, NO_DOMAIN, ProblemType, RequestRefused

_IS_JSON = (b"content-type", JSON.encode())
_encode = msgspec.json.Encoder().encode


class RequestContext(NamedTuple):
    """A request whose caller may make it."""

    request: Request
    all: ServicesByDomain
    grant: Grant
    limits: Limits
    asked: Any
    bound: Timeout

    @property
    def served(self) -> DomainServices:
        """The domain in the path."""
        name = part(self.request, "domain")
        found = self.all.get(name)
        if found is None:
            raise RequestRefused(NO_DOMAIN, f"{name!r} is none of {', '.join(sorted(self.all))}")
        return found

    @property
    def aggregate_id(self) -> str:
        return part(self.request, "id")

    async def must_exist(self) -> None:
        """Refused where no event of the aggregate is stored."""
        if not await self.served.events.heads([self.aggregate_id]):
            raise RequestRefused(NO_AGGREGATE, f"{self.aggregate_id!r} has no events")


Handle = Callable[[RequestContext], Awaitable[Response]]
Right = Literal["read", "write", "everything", "token", ""]


class Operation(NamedTuple):
    """One operation of the service: its route and its description are made of it.

    `right` is the scope that it needs in the domain of its path; "everything": to read all of
    them; "token": any valid token; "": none. An answer of type str is plain text.
    """

    name: str
    method: str
    path: str
    right: Right
    handle: Handle
    answers: Mapping[int, Any]
    parameters: type[Parameters] = Parameters
    problems: tuple[ProblemType, ...] = ()
    headers: tuple[str, ...] = ()


class Json(Response):
    """An answer with a JSON body, mostly without headers of its own."""

    media_type = JSON

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        if headers:
            super().init_headers(headers)
        else:
            self.raw_headers = [(b"content-length", b"%d" % len(self.body)), _IS_JSON]


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Json(_encode(body), status, headers)
