"""Queries of one aggregate: its events, its newest snapshot, its state, what a client lacks."""

from msgspec import UNSET
from starlette.responses import Response

from service.http.asked import EventsAsked, MissingAsked, Parameters, StateAsked
from service.http.call import Call, Operation, json
from service.http.lines import Lines
from service.http.problems import NO_AGGREGATE, NO_DOMAIN, NO_SNAPSHOT, NO_VERSION, Refused, invalid
from service.http.wire import LINES, Events, Missing, SnapshotBody, StateBody
from topics.codec import encode

ONE_PAGE = 100


async def events(call: Call) -> Response:
    """The events of an aggregate by version, in their newest schema.

    Asked for application/x-ndjson they are streamed, one a line, all of them without `limit`.
    """
    asked: EventsAsked = call.asked
    types = asked.types or None
    if LINES in call.request.headers.get("accept", ""):
        limit = None if asked.limit is UNSET else asked.limit
        found = call.served.queries.events(call.aggregate_id, asked.after, limit, types)
        lines = Lines((encode(event) async for event in found), call.limits.seconds)
        if not await lines.begin():
            await call.must_exist()
        return lines
    limit = ONE_PAGE if asked.limit is UNSET else asked.limit
    page = await _page(call, asked.after, limit, types)
    return json(page)


async def _page(call: Call, after: int, limit: int, types: list[str] | None = None) -> Events:
    """One more than was asked for tells whether any follow."""
    found = call.served.queries.events(call.aggregate_id, after, limit + 1, types)
    events = [event async for event in found]
    if not events:
        await call.must_exist()
    more, events = len(events) > limit, events[:limit]
    return Events(events=events, next=events[-1].version if more else None)


async def snapshot(call: Call) -> Response:
    """The newest snapshot of an aggregate, as it was saved."""
    found = await call.served.queries.snapshot(call.aggregate_id)
    if found is None:
        await call.must_exist()
        raise Refused(NO_SNAPSHOT)
    return json(found)


async def state(call: Call) -> Response:
    """The latest state of an aggregate, or the one at a version or at a time.

    The latest is saved as a snapshot. At a time: after the highest version whose event's time is
    not later.
    """
    asked: StateAsked = call.asked
    queries = call.served.queries
    if asked.version is not UNSET:
        found = await queries.at(call.aggregate_id, asked.version)
    else:
        found = await queries.latest(call.aggregate_id)
    if found is None:
        await call.must_exist()
        raise Refused(NO_VERSION)
    return json(StateBody(aggregate_id=found.aggregate_id, version=found.version, state=found.data))


async def missing(call: Call) -> Response:
    """What a client lacks that knows the events up to `after`."""
    asked: MissingAsked = call.asked
    heads = await call.served.events.heads([call.aggregate_id])
    if not heads:
        raise Refused(NO_AGGREGATE)
    latest = heads[call.aggregate_id].version
    if asked.after > latest:
        raise invalid("after", f"is {asked.after}, the latest version is {latest}")
    page = await _page(call, asked.after, asked.limit)
    return json(Missing(events=page.events, latest=latest, next=page.next))


AGGREGATE = "/domains/{domain}/{id}/"
COMMON = (NO_DOMAIN, NO_AGGREGATE)
OPERATIONS = [
    Operation(
        "events", "GET", AGGREGATE + "events", "read", events, EventsAsked, {200: Events}, COMMON
    ),
    Operation(
        "snapshot",
        "GET",
        AGGREGATE + "snapshot",
        "read",
        snapshot,
        Parameters,
        {200: SnapshotBody},
        (*COMMON, NO_SNAPSHOT),
    ),
    Operation(
        "state",
        "GET",
        AGGREGATE + "state",
        "read",
        state,
        StateAsked,
        {200: StateBody},
        (*COMMON, NO_VERSION),
    ),
    Operation(
        "missing",
        "GET",
        AGGREGATE + "missing",
        "read",
        missing,
        MissingAsked,
        {200: Missing},
        COMMON,
    ),
]
