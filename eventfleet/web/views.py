"""Queries of views: their rows by filters, in an order, page by page."""

from starlette.responses import Response

from eventfleet.topics.errors import InvalidRecord
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
    `order` is a field, with `-` in front for the highest first.
    """
    parameters: RowsParameters = context.parameters
    name = path_part(context.request, "view")
    try:
        page = await context.services.queries.views.find(
            name,
            parameters.filters,
            order_by=parameters.order or None,
            limit=parameters.limit,
            cursor=parameters.start,
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
    ),
]
