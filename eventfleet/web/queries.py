"""Queries of one aggregate: its events, its newest snapshot, its state, what a client lacks."""

from datetime import datetime

from msgspec import UNSET
from starlette.responses import Response

from eventfleet.topics.codec import encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import milliseconds
from eventfleet.web.bodies import (
    LINES,
    Body,
    DiffBody,
    EventsBody,
    MissingBody,
    SnapshotBody,
    StateBody,
)
from eventfleet.web.ndjson import NdjsonResponse
from eventfleet.web.operation import Handle, Operation, RequestContext, json
from eventfleet.web.parameters import (
    DiffParameters,
    EventsParameters,
    MissingParameters,
    Parameters,
    StateParameters,
)
from eventfleet.web.problems import (
    NO_AGGREGATE,
    NO_DOMAIN,
    NO_SNAPSHOT,
    NO_VERSION,
    REPLAY,
    ProblemType,
    RequestRefused,
    invalid,
)

ONE_PAGE = 100


async def events(call: RequestContext) -> Response:
    """The events of an aggregate by version, in their newest schema.

    Asked for application/x-ndjson they are streamed, one a line, all of them without `limit`.
    """
    asked: EventsParameters = call.asked
    types = asked.types or None
    if LINES in call.request.headers.get("accept", ""):
        limit = None if asked.limit is UNSET else asked.limit
        found = call.served.queries.events(call.aggregate_id, asked.after, limit, types)
        lines = NdjsonResponse((encode(event) async for event in found), call.limits.seconds)
        if not await lines.begin():
            await call.must_exist()
        return lines
    limit = ONE_PAGE if asked.limit is UNSET else asked.limit
    page = await _page(call, asked.after, limit, types)
    return json(page)


async def _page(
    call: RequestContext, after: int, limit: int, types: list[str] | None = None
) -> EventsBody:
    """One more than was asked for tells whether any follow."""
    found = call.served.queries.events(call.aggregate_id, after, limit + 1, types)
    events = [event async for event in found]
    if not events:
        await call.must_exist()
    more, events = len(events) > limit, events[:limit]
    return EventsBody(events=events, next=events[-1].version if more else None)


async def snapshot(call: RequestContext) -> Response:
    """The newest snapshot of an aggregate, as it was saved."""
    found = await call.served.queries.snapshot(call.aggregate_id)
    if found is None:
        await call.must_exist()
        raise RequestRefused(NO_SNAPSHOT)
    return json(found)


async def state(call: RequestContext) -> Response:
    """The latest state of an aggregate, or the one at a version or at a time.

    The latest is saved as a snapshot. At a time: after the highest version whose event's time is
    not later.
    """
    asked: StateParameters = call.asked
    queries = call.served.queries
    if asked.version is not UNSET and asked.at is not UNSET:
        raise invalid("at", "can't be asked for together with version")
    moment = _moment(asked.at) if asked.at is not UNSET else None
    if asked.version is not UNSET:
        found = await queries.at(call.aggregate_id, asked.version)
    elif moment:
        found = await queries.at_time(call.aggregate_id, moment)
    else:
        found = await queries.latest(call.aggregate_id)
    if found is None:
        await call.must_exist()
        raise RequestRefused(NO_VERSION)
    return json(StateBody(aggregate_id=found.aggregate_id, version=found.version, state=found.data))


def _moment(asked: datetime) -> datetime:
    try:
        return milliseconds(asked)
    except InvalidRecord as error:
        raise invalid("at", error.reason) from None


async def difference(call: RequestContext) -> Response:
    """What turns the state at version `first` into that at `second`, as a JSON Patch (RFC 6902);
    0 is the state before any event."""
    asked: DiffParameters = call.asked
    queries = call.served.queries
    await call.must_exist()
    found = await queries.difference(call.aggregate_id, asked.first, asked.second)
    if found is None:
        raise RequestRefused(NO_VERSION)
    return json(found)


async def missing(call: RequestContext) -> Response:
    """What a client lacks that has the events up to version `after`."""
    asked: MissingParameters = call.asked
    found = await call.served.queries.missing(call.aggregate_id, asked.after, asked.limit)
    if not found.latest:
        raise RequestRefused(NO_AGGREGATE)
    last = found.events[-1].version if found.events else found.latest
    more = last if last < found.latest else None
    body = MissingBody(events=found.events, latest=found.latest, ahead=found.ahead, next=more)
    return json(body)


COMMON = (NO_DOMAIN, NO_AGGREGATE, REPLAY)


def _of_aggregate(
    handle: Handle, answer: type[Body], kind: type[Parameters] = Parameters, *more: ProblemType
) -> Operation:
    return Operation(
        name=handle.__name__,
        method="GET",
        path="/domains/{domain}/{id}/" + handle.__name__,
        right="read",
        handle=handle,
        parameters=kind,
        answers={200: answer},
        problems=(*COMMON, *more),
    )


OPERATIONS = [
    _of_aggregate(events, EventsBody, EventsParameters),
    _of_aggregate(snapshot, SnapshotBody, Parameters, NO_SNAPSHOT),
    _of_aggregate(state, StateBody, StateParameters, NO_VERSION),
    _of_aggregate(difference, DiffBody, DiffParameters, NO_VERSION),
    _of_aggregate(missing, MissingBody, MissingParameters),
]
