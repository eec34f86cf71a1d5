"""One request to one operation, as its handler sees it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.http.access import Grant
from service.http.asked import Parameters, part
from service.http.problems import NO_AGGREGATE, NO_DOMAIN, Kind, Refused
from service.http.served import Limits, Served, ServedDomains
from service.http.wire import JSON

P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True)
class Call:
    """A request whose caller may make it."""

    request: Request
    all: ServedDomains
    grant: Grant
    limits: Limits
    asked: Any
    bound: asyncio.Timeout

    def take(self, seconds: float) -> None:
        """More time for the answer."""
        end = self.bound.when()
        self.bound.reschedule(end and end + seconds)

    @property
    def served(self) -> Served:
        """The domain in the path."""
        name = part(self.request, "domain")
        found = self.all.get(name)
        if found is None:
            raise Refused(NO_DOMAIN, f"{name!r} is none of {', '.join(sorted(self.all))}")
        return found

    @property
    def aggregate_id(self) -> str:
        return part(self.request, "id")

    async def must_exist(self) -> None:
        """Refused where no event of the aggregate is stored."""
        if not await self.served.events.heads([self.aggregate_id]):
            raise Refused(NO_AGGREGATE, f"{self.aggregate_id!r} has no events")


Handle = Callable[[Call], Awaitable[Response]]
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
    problems: tuple[Kind, ...] = ()
    headers: tuple[str, ...] = ()


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(msgspec.json.encode(body), status, headers, JSON)
