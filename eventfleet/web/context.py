"""The domains that the application serves, its limits, and the context of one request."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.requests import Request

from eventfleet.feeds.event_feed import EventFeed
from eventfleet.model.domain import Domain
from eventfleet.service.event_service import EventService
from eventfleet.service.parked_aggregates import ParkedAggregates
from eventfleet.service.shares import Shares
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import EventStore
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.event import MAX_EVENT_BYTES
from eventfleet.web.access import Grant, aggregate_refused
from eventfleet.web.open_feeds import OpenFeeds
from eventfleet.web.problems import UNKNOWN_AGGREGATE, UNKNOWN_DOMAIN, RequestRefused, invalid
from eventfleet.web.requests import ACTOR, header, path_part


class DomainServices(NamedTuple):
    """A served domain: takes its commands and answers its queries; `parked` is for operators."""

    domain: Domain[Any]
    commands: EventService[Any]
    queries: Querier[Any]
    events: EventStore
    parked: ParkedAggregates
    feed: EventFeed | None = None


ServicesByDomain = Mapping[str, DomainServices]


@dataclass(frozen=True)
class Limits:
    """Limits on requests; `/live`, `/ready` and `/metrics` have none on their number."""

    concurrent_requests: int = 256
    """Requests at a time, half of them of one caller; more are refused with status 429."""

    body_bytes: int = MAX_EVENT_BYTES
    """Bytes of a request body; a larger one is refused with status 413."""

    body_values: int = 100_000
    """Values in a request body: each object, array, member and item; more have status 422."""

    bodies_bytes: int = 64 * 2**20
    """Bytes that the bodies of all concurrent requests may take in memory, values included; a body
    for which there is no room is refused with status 429. Half of them are for one caller."""

    timeout_seconds: float = 10.0
    """Seconds for a response, or for each line and chunk of a stream; then the status is 503."""

    wait_seconds: int = 60
    """Seconds that a command may wait for a stage, in addition to `timeout_seconds`."""


class RequestContext(NamedTuple):
    """An authorized request to one operation, with its parsed query parameters."""

    request: Request
    domains: ServicesByDomain
    grant: Grant
    limits: Limits
    parameters: Any
    timeout: Timeout
    bodies: Shares
    feeds: OpenFeeds
    recheck: Callable[[], Awaitable[Grant]]
    """Returns the caller's rights as they are by now. RequestRefused: they do not suffice."""

    @property
    def services(self) -> DomainServices:
        """The services of the domain in the path. RequestRefused: there is no such domain."""
        name = path_part(self.request, "domain")
        found = self.domains.get(name)
        if found is None:
            known = ", ".join(sorted(self.domains))
            raise RequestRefused(
                UNKNOWN_DOMAIN, f"{name!r} is not a domain; known domains: {known}"
            )
        return found

    @property
    def aggregate_id(self) -> str:
        return path_part(self.request, "id")

    @property
    def actor(self) -> str | None:
        """The caller: the token's subject, or, where no tokens are needed, whom X-Actor names.

        RequestRefused: X-Actor beside a token. An operation that asks for it lists the header.
        """
        named = header(self.request, ACTOR)
        if named is not None and not self.grant.names_actor:
            raise invalid(ACTOR, "the actor is the token's subject")
        return self.grant.actor if named is None else named

    def require_unbound(self) -> None:
        """Raises RequestRefused for a caller that is bound to aggregates."""
        if self.grant.bound_to is not None:
            raise aggregate_refused(
                "the caller's rights are bound to aggregates; this has all of them"
            )

    async def require_aggregate(self) -> None:
        """Raises RequestRefused if no event of the aggregate is stored."""
        if not await self.services.events.heads([self.aggregate_id]):
            raise RequestRefused(UNKNOWN_AGGREGATE, f"{self.aggregate_id!r} has no events")
