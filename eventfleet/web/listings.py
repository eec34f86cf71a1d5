"""Queries across aggregates: the domains, the aggregates of a domain, and its feed."""

from starlette.responses import Response

from eventfleet.model.command_rules import command_name
from eventfleet.topics.names import wire_name
from eventfleet.web.bodies import (
    EVENT_STREAM,
    JSON,
    AggregatePage,
    DomainInfo,
    DomainList,
    FeedPage,
)
from eventfleet.web.context import DomainServices, RequestContext
from eventfleet.web.feeds import domain_feed
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import FeedParameters, PageParameters
from eventfleet.web.problems import REPLAY_FAILED, UNKNOWN_DOMAIN, invalid
from eventfleet.web.requests import prefers
from eventfleet.web.responses import json_response


async def domains(context: RequestContext) -> Response:
    """Lists the domains that the caller may read."""
    readable = [
        each for name, each in context.domains.items() if context.grant.allows(name, "read")
    ]
    return json_response(DomainList(domains=[_info(services) for services in readable]))


def _info(services: DomainServices) -> DomainInfo:
    domain = services.domain
    return DomainInfo(
        name=domain.name,
        mode="synchronous" if domain.synchronous else "asynchronous",
        schema_free=domain.schema_free,
        commands=[command_name(rule) for rule in domain.commands],
        events=[*map(wire_name, domain.events)],
        views=[table.name for view in domain.views for table in view.tables],
    )


async def aggregates(context: RequestContext) -> Response:
    """Lists the ids of a domain's aggregates, sorted, page by page."""
    parameters: PageParameters = context.parameters
    page = await context.services.events.aggregates(parameters.start, parameters.limit)
    full = len(page.items) == parameters.limit
    return json_response(AggregatePage(aggregates=page.items, next=page.cursor if full else None))


async def feed(context: RequestContext) -> Response:
    """Returns all events of a domain in their latest schema, page by page.

    With `Accept: text/event-stream` they are sent as they come, and those before them from the
    beginning or from a cursor on; with `from=latest` only those that come. `types` and `aggregates`
    choose among them. The id of a message is the cursor behind it.
    """
    parameters: FeedParameters = context.parameters
    if prefers(context.request, EVENT_STREAM, JSON):
        return domain_feed(context)
    for name in ("types", "aggregates", "cursor"):
        if getattr(parameters, name):
            raise invalid(name, f"is of a feed: Accept: {EVENT_STREAM}")
    context.require_unbound()
    page = await context.services.queries.feed(parameters.start, parameters.limit)
    return json_response(FeedPage(events=page.items, next=page.cursor))


OPERATIONS = [
    Operation(
        name="domains",
        method="GET",
        path="/domains",
        right="token",
        handler=domains,
        responses={200: DomainList},
        keeps_bounds=True,
    ),
    Operation(
        name="aggregates",
        method="GET",
        path="/domains/{domain}/aggregates",
        right="read",
        handler=aggregates,
        parameters=PageParameters,
        responses={200: AggregatePage},
        problems=(UNKNOWN_DOMAIN,),
    ),
    Operation(
        name="feed",
        method="GET",
        path="/domains/{domain}/feed",
        right="read",
        handler=feed,
        parameters=FeedParameters,
        responses={200: FeedPage},
        problems=(UNKNOWN_DOMAIN, REPLAY_FAILED),
        keeps_bounds=True,
    ),
]
