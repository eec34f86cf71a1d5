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
from service.http.asked import header, part, payload, traceparent
from service.http.call import Call, Operation, json
from service.http.problems import (
    CONFLICT,
    DECIDE,
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
CORRELATION = "X-Correlation-ID"
CAUSATION = "X-Causation-ID"
FIELDS = {"subject": "id", "id": KEY, "data": "body", "value": "body"}

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
            correlation_id=header(request, CORRELATION),
            causation_id=header(request, CAUSATION),
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
        name="send",
        method="POST",
        path="/domains/{domain}/{id}/commands/{command}",
        right="write",
        handle=send,
        answers={200: Sent, 202: Sent},
        problems=(
            NO_DOMAIN,
            NO_COMMAND,
            REJECTED,
            CONFLICT,
            TOO_LARGE,
            NOT_JSON,
            ID_REUSED,
            DECIDE,
        ),
        headers=(KEY, CORRELATION, CAUSATION),
    )
]
