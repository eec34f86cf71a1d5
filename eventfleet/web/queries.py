"""Queries of one aggregate: its events, newest snapshot, state, and a client's missing events."""

from datetime import datetime

from msgspec import UNSET
from starlette.responses import Response

from eventfleet.topics.codec import encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import truncate_to_milliseconds
from eventfleet.web.bodies import (
    EVENT_STREAM,
    JSON,
    NDJSON,
    AggregateDiff,
    AggregateSnapshot,
    AggregateState,
    EventPage,
    MissingEventsPage,
    ResponseBody,
)
from eventfleet.web.context import RequestContext
from eventfleet.web.feeds import aggregate_feed
from eventfleet.web.operation import Handler, Operation
from eventfleet.web.parameters import (
    DEFAULT_PAGE_ITEMS,
    DiffParameters,
    EventsParameters,
    MissingParameters,
    QueryParameters,
    StateParameters,
)
from eventfleet.web.preconditions import ETAG, etag
from eventfleet.web.problems import (
    NO_SNAPSHOT,
    REPLAY_FAILED,
    UNKNOWN_AGGREGATE,
    UNKNOWN_DOMAIN,
    UNKNOWN_VERSION,
    ProblemType,
    RequestRefused,
    invalid,
)
from eventfleet.web.requests import prefers
from eventfleet.web.responses import NdjsonResponse, json_response


async def events(context: RequestContext) -> Response:
    """Returns the events of an aggregate in version order and in their latest schema.

    With `Accept: application/x-ndjson` they are streamed, one per line; all of them unless `limit`
    is given. The last page without a choice of `types` has the aggregate's version as its ETag.
    With `Accept: text/event-stream` those that come are sent, too; the id of a message is a cursor.
    """
    parameters: EventsParameters = context.parameters
    if prefers(context.request, EVENT_STREAM, JSON):
        return aggregate_feed(context)
    if parameters.cursor is not UNSET:
        raise invalid("cursor", f"is of a feed: Accept: {EVENT_STREAM}")
    limit = None if parameters.limit is UNSET else parameters.limit
    if prefers(context.request, NDJSON, JSON):
        return await _event_stream(context, parameters, limit)
    page = await _event_page(context, parameters, limit or DEFAULT_PAGE_ITEMS)
    to_the_latest = page.events and page.next is None and not parameters.types
    headers = {ETAG: etag(page.events[-1].version)} if to_the_latest else None
    return json_response(page, headers=headers)


async def _event_stream(
    context: RequestContext, parameters: EventsParameters, limit: int | None
) -> Response:
    found = context.services.queries.events(
        context.aggregate_id, parameters.after, limit, parameters.types or None
    )
    lines = (encode(event) async for event in found)
    stream = NdjsonResponse(lines, context.limits.timeout_seconds)
    if not await stream.read_first_line():
        await context.require_aggregate()
    return stream


async def _event_page(
    context: RequestContext, parameters: EventsParameters, limit: int
) -> EventPage:
    """Reads one event more than the page has, to learn whether another page follows."""
    found = context.services.queries.events(
        context.aggregate_id, parameters.after, limit + 1, parameters.types or None
    )
    events = [event async for event in found]
    if not events:
        await context.require_aggregate()
    more, events = len(events) > limit, events[:limit]
    return EventPage(events=events, next=events[-1].version if more else None)


async def snapshot(context: RequestContext) -> Response:
    """Returns the newest snapshot of an aggregate, as it was saved."""
    found = await context.services.queries.snapshot(context.aggregate_id)
    if found is None:
        await context.require_aggregate()
        raise RequestRefused(NO_SNAPSHOT)
    return json_response(found)


async def state(context: RequestContext) -> Response:
    """Returns the latest state of an aggregate, or its state at a version or a time.

    The latest state is saved as a snapshot. The state at a time is the one after the highest
    version whose event is not later. The ETag is the state's version.
    """
    parameters: StateParameters = context.parameters
    queries = context.services.queries
    if parameters.version is not UNSET and parameters.at is not UNSET:
        raise invalid("at", "cannot be combined with version")
    moment = _to_milliseconds(parameters.at) if parameters.at is not UNSET else None
    if parameters.version is not UNSET:
        found = await queries.at(context.aggregate_id, parameters.version)
    elif moment:
        found = await queries.at_time(context.aggregate_id, moment)
    else:
        found = await queries.latest(context.aggregate_id)
    if found is None:
        await context.require_aggregate()
        raise RequestRefused(UNKNOWN_VERSION)
    body = AggregateState(aggregate_id=found.aggregate_id, version=found.version, state=found.data)
    return json_response(body, headers={ETAG: etag(found.version)})


def _to_milliseconds(moment: datetime) -> datetime:
    try:
        return truncate_to_milliseconds(moment)
    except InvalidRecord as error:
        raise invalid("at", error.reason) from None


async def diff(context: RequestContext) -> Response:
    """Returns the JSON Patch (RFC 6902) from the state at version `first` to that at `second`.

    Version 0 is the state before any event.
    """
    parameters: DiffParameters = context.parameters
    queries = context.services.queries
    await context.require_aggregate()
    found = await queries.diff(context.aggregate_id, parameters.first, parameters.second)
    if found is None:
        raise RequestRefused(UNKNOWN_VERSION)
    return json_response(found)


async def missing(context: RequestContext) -> Response:
    """Returns the events that a client lacks that has those up to version `after`.

    The ETag is the aggregate's latest version.
    """
    parameters: MissingParameters = context.parameters
    queries = context.services.queries
    found = await queries.missing(context.aggregate_id, parameters.after, parameters.limit)
    if not found.latest:
        raise RequestRefused(UNKNOWN_AGGREGATE)
    last = found.events[-1].version if found.events else found.latest
    body = MissingEventsPage(
        events=found.events,
        latest=found.latest,
        ahead=found.ahead,
        next=last if last < found.latest else None,
    )
    return json_response(body, headers={ETAG: etag(found.latest)})


COMMON_PROBLEMS = (UNKNOWN_DOMAIN, UNKNOWN_AGGREGATE, REPLAY_FAILED)


def _of_aggregate(
    handler: Handler,
    body: type[ResponseBody],
    parameters: type[QueryParameters] = QueryParameters,
    *problems: ProblemType,
) -> Operation:
    return Operation(
        name=handler.__name__,
        method="GET",
        path="/domains/{domain}/{id}/" + handler.__name__,
        right="read",
        handler=handler,
        parameters=parameters,
        responses={200: body},
        problems=(*COMMON_PROBLEMS, *problems),
    )


DIFF = _of_aggregate(diff, AggregateDiff, DiffParameters, UNKNOWN_VERSION)
DIFFERENCE = DIFF._replace(
    name="difference", path="/domains/{domain}/{id}/difference", deprecated=True
)
"""The former name of `diff`, for one release."""

OPERATIONS = [
    _of_aggregate(events, EventPage, EventsParameters),
    _of_aggregate(snapshot, AggregateSnapshot, QueryParameters, NO_SNAPSHOT),
    _of_aggregate(state, AggregateState, StateParameters, UNKNOWN_VERSION),
    DIFF,
    DIFFERENCE,
    _of_aggregate(missing, MissingEventsPage, MissingParameters),
]
