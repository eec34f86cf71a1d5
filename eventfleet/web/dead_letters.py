"""Dead letters: what the roles of a domain park; redrives and discards of it."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from eventfleet.topics.codec import convert
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import MAX_ID_CHARS
from eventfleet.web.bodies import DeadLetterPage, DiscardResult, RedriveResult
from eventfleet.web.context import RequestContext
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import Condition, DeadLettersParameters
from eventfleet.web.problems import (
    BODY_LATE,
    NOT_JSON,
    NOT_PARKED,
    TOO_LARGE,
    UNKNOWN_DOMAIN,
    invalid,
)
from eventfleet.web.request_body import json_object
from eventfleet.web.requests import ACTOR
from eventfleet.web.responses import json_response

UNKNOWN_CALLER = "unknown"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """The conditions of a redrive, which all must hold; or, in place of them, `all`."""

    role: Condition | UnsetType = UNSET
    aggregate_id: Condition | UnsetType = UNSET
    reason: Condition | UnsetType = UNSET
    all: bool = False


class DiscardFirst(msgspec.Struct, forbid_unknown_fields=True):
    """The event to pass over, and why: the one that the aggregate is parked at."""

    role: Name
    aggregate_id: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    why: str


async def dead_letters(context: RequestContext) -> Response:
    """Lists the parked aggregates of a domain by role and id, page by page.

    `reason` is the beginning of a reason, such as `KeyError`.
    """
    asked: DeadLettersParameters = context.parameters
    conditions = asked.role or "", asked.aggregate or "", asked.reason or ""
    page = await context.services.parked.page(*conditions, limit=asked.limit, cursor=asked.start)
    return json_response(DeadLetterPage(dead_letters=page.items, next=page.next))


async def redrive(context: RequestContext) -> Response:
    """Requests a redrive of parked aggregates, which the workers do within seconds.

    The body has at least one condition; `{"all": true}` redrives all that is parked.

    One that fails again stays parked; its `attempts` are counted.
    """
    asked: Redrive = await _body(context, Redrive)
    conditions = asked.role or "", asked.aggregate_id or "", asked.reason or ""
    try:
        count = await context.services.parked.redrive(*conditions, everything=asked.all)
    except InvalidRecord as error:
        raise invalid(error.field, error.reason) from None
    return json_response(RedriveResult(requested=count), 202)


async def discard(context: RequestContext) -> Response:
    """Requests that a role passes over the event that it parks an aggregate at.

    In the role snapshot this marks the event, which no state is folded with from then on. Relay
    does not pass the event on; project passes over it, and builds all views of the domain anew. The
    events behind it are redriven.
    """
    asked: DiscardFirst = await _body(context, DiscardFirst)
    by = context.actor or UNKNOWN_CALLER
    try:
        parked = await context.services.parked.discard(
            asked.role, asked.aggregate_id, asked.version, why=asked.why, by=by
        )
    except InvalidRecord as error:
        raise invalid(error.field, error.reason) from None
    return json_response(DiscardResult(event_id=parked.event_id), 202)


async def _body(context: RequestContext, kind: Any) -> Any:
    with context.bodies.hold(context.grant.caller) as held:
        try:
            return convert(await json_object(context, held), kind)
        except InvalidRecord as error:
            raise invalid(error.field, error.reason) from None


OPERATIONS = [
    Operation(
        name="dead_letters",
        method="GET",
        path="/dead-letters/{domain}",
        right="operate",
        handler=dead_letters,
        parameters=DeadLettersParameters,
        responses={200: DeadLetterPage},
        problems=(UNKNOWN_DOMAIN,),
    ),
    Operation(
        name="redrive",
        method="POST",
        path="/dead-letters/{domain}/redrive",
        right="operate",
        handler=redrive,
        responses={202: RedriveResult},
        problems=(UNKNOWN_DOMAIN, BODY_LATE, TOO_LARGE, NOT_JSON),
        body=Redrive,
    ),
    Operation(
        name="discard",
        method="POST",
        path="/dead-letters/{domain}/discard",
        right="operate",
        handler=discard,
        responses={202: DiscardResult},
        headers=(ACTOR,),
        problems=(UNKNOWN_DOMAIN, NOT_PARKED, BODY_LATE, TOO_LARGE, NOT_JSON),
        body=DiscardFirst,
    ),
]
