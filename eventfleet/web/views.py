"""Queries of views: their rows by filters, in an order, page by page."""

from msgspec import UNSET
from starlette.responses import Response

from eventfleet.model.views import Totals, find_table
from eventfleet.topics.errors import InvalidRecord
from eventfleet.web.access import aggregate_refused
from eventfleet.web.bodies import ViewPage, to_view_page
from eventfleet.web.context import RequestContext
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import RowsParameters
from eventfleet.web.problems import UNKNOWN_DOMAIN, UNKNOWN_VIEW, invalid
from eventfleet.web.requests import path_part
from eventfleet.web.responses import json_response


async def rows(context: RequestContext) -> Response:
    """Returns rows of a view, or totals, that pass all filters.

    A filter is a field, or a field and a comparison: `cents.gte=100`; `status.in=open,paid`.
    `order` is a field, with `-` in front for the highest first. A token that is bound to aggregates
    gets their rows only, and no totals.
    """
    parameters: RowsParameters = context.parameters
    name, domain = path_part(context.request, "view"), context.services.domain
    bounds = context.grant.aggregates_of(domain.name)
    _, table = find_table(domain.views, name) or (None, None)
    if bounds is not None and isinstance(table, Totals):
        raise aggregate_refused(f"{name} has totals of many aggregates")
    try:
        page = await context.services.queries.views.find(
            name,
            parameters.filters,
            order_by=None if parameters.order is UNSET else parameters.order,
            limit=parameters.limit,
            cursor=parameters.start,
            aggregates=bounds,
        )
    except InvalidRecord as error:
        raise invalid(error.field, error.reason) from None
    return json_response(to_view_page(page))


OPERATIONS = [
    Operation(
        name="rows",
        method="GET",
        path="/views/{domain}/{view}",
        right="read",
        handler=rows,
        parameters=RowsParameters,
        responses={200: ViewPage},
        problems=(UNKNOWN_DOMAIN, UNKNOWN_VIEW),
        keeps_bounds=True,
    ),
]
