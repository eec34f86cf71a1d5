"""Queries across aggregates: the domains, the aggregates of one, and its feed."""

from starlette.responses import Response

from eventfleet.model.command_rules import command_name
from eventfleet.stores.errors import InvalidCursor
from eventfleet.web.bodies import AggregatesBody, DomainBody, DomainsBody, FeedBody
from eventfleet.web.context import DomainServices
from eventfleet.web.operation import Operation, RequestContext, json
from eventfleet.web.parameters import PageParameters
from eventfleet.web.problems import NO_DOMAIN, REPLAY, invalid


async def domains(call: RequestContext) -> Response:
    """The domains that the caller may read."""
    may = [served for name, served in call.all.items() if call.grant.allows(name, "read")]
    return json(DomainsBody(domains=[_info(served) for served in may]))


def _info(served: DomainServices) -> DomainBody:
    domain = served.domain
    return DomainBody(
        name=domain.name,
        mode="synchronous" if domain.synchronous else "asynchronous",
        schema_free=domain.schema_free,
        commands=[command_name(declared) for declared in domain.commands],
        events=[kind.__name__ for kind in domain.events],
    )


async def aggregates(call: RequestContext) -> Response:
    """The ids of a domain's aggregates, in their order."""
    asked: PageParameters = call.asked
    try:
        page = await call.served.events.aggregates(asked.start, asked.limit)
    except InvalidCursor as error:
        raise invalid("from", str(error)) from None
    full = len(page.items) == asked.limit
    return json(AggregatesBody(aggregates=page.items, next=page.cursor if full else None))


async def feed(call: RequestContext) -> Response:
    """All events of a domain, in their newest schema."""
    asked: PageParameters = call.asked
    try:
        page = await call.served.queries.feed(asked.start, asked.limit)
    except InvalidCursor as error:
        raise invalid("from", str(error)) from None
    return json(FeedBody(events=page.items, next=page.cursor))


OPERATIONS = [
    Operation(
        name="domains",
        method="GET",
        path="/domains",
        right="token",
        handle=domains,
        answers={200: DomainsBody},
    ),
    Operation(
        name="aggregates",
        method="GET",
        path="/domains/{domain}/aggregates",
        right="read",
        handle=aggregates,
        parameters=PageParameters,
        answers={200: AggregatesBody},
        problems=(NO_DOMAIN,),
    ),
    Operation(
        name="feed",
        method="GET",
        path="/domains/{domain}/feed",
        right="read",
        handle=feed,
        parameters=PageParameters,
        answers={200: FeedBody},
        problems=(NO_DOMAIN, REPLAY),
    ),
]
