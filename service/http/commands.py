"""Commands: POST /domains/{domain}/{id}/commands/{command}."""

from typing import assert_never

from starlette.responses import Response

from protocols.outcomes import (
    Accepted,
    Conflict,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    told,
)
from service.http.asked import Parameters, header, part, payload, traceparent
from service.http.call import Call, Operation, json
from service.http.problems import (
    CONFLICT,
    ID_REUSED,
    NO_COMMAND,
    NO_DOMAIN,
    NOT_JSON,
    REJECTED,
    TOO_LARGE,
    UNAVAILABLE,
    Refused,
    invalid,
)
from service.http.wire import Sent
from stores.system import Uuid7Ids
from topics.errors import Unreadable

KEY = "Idempotency-Key"
FIELDS = {"subject": "id", "id": KEY, "data": "body"}

_ids = Uuid7Ids()


async def send(call: Call) -> Response:
    """Send one command to an aggregate.

    The header Idempotency-Key is the command's id: the same one is the same command. Without it
    the command gets an id of its own.
    """
    request, served = call.request, call.served
    command = part(request, "command")
    try:
        served.domain.rule(command)
    except Unreadable as error:
        raise Refused(NO_COMMAND, error.reason) from None
    command_id = header(request, KEY) or _ids.new()
    try:
        outcome = await served.commands.send(
            call.aggregate_id,
            command,
            await payload(request, call.limits.body_bytes),
            command_id=command_id,
            correlation_id=header(request, "X-Correlation-ID"),
            causation_id=header(request, "X-Causation-ID"),
            actor=call.grant.actor,
            traceparent=traceparent(request),
            timeout=call.limits.seconds * 0.9,
        )
    except Unreadable as error:
        raise invalid(_field(error.field), error.reason) from None
    return _answer(outcome, command_id, 200 if served.domain.synchronous else 202)


def _field(name: str) -> str:
    """As the request has it: the body is the payload."""
    return FIELDS.get(name, name.removeprefix("data."))


def _answer(outcome: Outcome, command_id: str, done: int) -> Response:
    match outcome:
        case Accepted() | Repeated():
            return _sent(outcome, command_id, done)
        case IdReused():
            raise Refused(ID_REUSED, outcome.reason, field=KEY, reason=outcome.reason)
        case Rejected():
            raise Refused(REJECTED, outcome.reason, reason=outcome.reason, command_id=command_id)
        case Conflict():
            raise Refused(CONFLICT, outcome.reason, reason=outcome.reason, command_id=command_id)
        case Unavailable():
            raise Refused(UNAVAILABLE, outcome.reason, command_id=command_id)
    assert_never(outcome)


def _sent(outcome: Accepted | Repeated, command_id: str, done: int) -> Response:
    repeated = isinstance(outcome, Repeated)
    body = Sent(
        outcome="repeated" if repeated else "accepted",
        command_id=command_id,
        **told(outcome),
    )
    return json(body, 200 if repeated else done)


OPERATIONS = [
    Operation(
        "send",
        "POST",
        "/domains/{domain}/{id}/commands/{command}",
        "write",
        send,
        Parameters,
        {200: Sent, 202: Sent},
        (NO_DOMAIN, NO_COMMAND, REJECTED, CONFLICT, TOO_LARGE, NOT_JSON, ID_REUSED),
    )
]
