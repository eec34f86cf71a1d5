"""Queries across aggregates: the domains, the aggregates of one, and its feed."""

from starlette.responses import Response

from eventfleet.model.command_rules import command_name
from eventfleet.stores.errors import WrongCursor
from eventfleet.web.bodies import Aggregates, DomainInfo, Domains, Feed
from eventfleet.web.context import Served
from eventfleet.web.operation import Call, Operation, json
from eventfleet.web.parameters import PageAsked
from eventfleet.web.problems import NO_DOMAIN, REPLAY, invalid


async def domains(call: Call) -> Response:
    """The domains that the caller may read."""
    may = [served for name, served in call.all.items() if call.grant.allows(name, "read")]
    return json(Domains(domains=[_info(served) for served in may]))


def _info(served: Served) -> DomainInfo:
    domain = served.domain
    return DomainInfo(
        name=domain.name,
        mode="synchronous" if domain.synchronous else "asynchronous",
        schema_free=domain.schema_free,
        commands=[command_name(declared) for declared in domain.commands],
        events=[kind.__name__ for kind in domain.events],
    )


async def aggregates(call: Call) -> Response:
    """The ids of a domain's aggregates, in their order."""
    asked: PageAsked = call.asked
    try:
        page = await call.served.events.aggregates(asked.start, asked.limit)
    except WrongCursor as error:
        raise invalid("from", str(error)) from None
    full = len(page.items) == asked.limit
    return json(Aggregates(aggregates=page.items, next=page.cursor if full else None))


async def feed(call: Call) -> Response:
    """All events of a domain, in their newest schema."""
    asked: PageAsked = call.asked
    try:
        page = await call.served.queries.feed(asked.start, asked.limit)
    except WrongCursor as error:
        raise invalid("from", str(error)) from None
    return json(Feed(events=page.items, next=page.cursor))


OPERATIONS = [
    Operation(
        name="domains",
        method="GET",
        path="/domains",
        right="token",
        handle=domains,
        answers={200: Domains},
    ),
    Operation(
        name="aggregates",
        method="GET",
        path="/domains/{domain}/aggregates",
        right="read",
        handle=aggregates,
        parameters=PageAsked,
        answers={200: Aggregates},
        problems=(NO_DOMAIN,),
    ),
    Operation(
        name="feed",
        method="GET",
        path="/domains/{domain}/feed",
        right="read",
        handle=feed,
        parameters=PageAsked,
        answers={200: Feed},
        problems=(NO_DOMAIN, REPLAY),
    ),
]
