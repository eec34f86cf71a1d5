"""Commands: POST /domains/{domain}/{id}/commands/{command}."""

from typing import Any, assert_never

from msgspec import UNSET
from starlette.responses import Response

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    told,
)
from eventfleet.model.command_rules import command_class
from eventfleet.model.domain import Domain
from eventfleet.service.event_service import SendOptions
from eventfleet.stores.clock import Uuid7Ids
from eventfleet.stores.contracts import Stage
from eventfleet.topics.errors import InvalidRecord
from eventfleet.web.bodies import SentBody
from eventfleet.web.operation import Operation, RequestContext, json
from eventfleet.web.parameters import (
    PREFER,
    TRACEPARENT,
    SendParameters,
    header,
    part,
    patience,
    payload,
    traceparent,
    whole,
)
from eventfleet.web.problems import (
    CONFLICT,
    DECIDE,
    ID_REUSED,
    NO_COMMAND,
    NO_DOMAIN,
    NOT_JSON,
    REJECTED,
    TOO_LARGE,
    UNAVAILABLE,
    ProblemType,
    RequestRefused,
    invalid,
)

KEY = "Idempotency-Key"
CORRELATION = "X-Correlation-ID"
CAUSATION = "X-Causation-ID"
FIELDS = {"subject": "id", "id": KEY, "data": "body", "value": "body"}

_ids = Uuid7Ids()


async def send(call: RequestContext) -> Response:
    """Send one command to an aggregate.

    The header Idempotency-Key is the command's id: the same one is the same command. Without it
    the command gets an id of its own. With `wait` the answer comes when the event has come to that
    stage, or after the seconds of `Prefer: wait=N`, and says how far it has come.
    """
    request, served, asked = call.request, call.served, call.asked
    command, typed = _known(part(request, "command"), served.domain)
    command_id = header(request, KEY) or _ids.new()
    data = await payload(request, call.limits.body_bytes)
    data = whole(data) if typed else data
    about = SendOptions(
        command_id=command_id,
        correlation_id=header(request, CORRELATION),
        causation_id=header(request, CAUSATION),
        actor=call.grant.actor,
        traceparent=traceparent(request),
        timeout=call.limits.seconds * 0.9,
    )
    answer = _Answer(command_id, 200 if served.domain.synchronous else 202)
    try:
        if asked.wait is UNSET:
            return answer.to(await served.commands.send(call.aggregate_id, command, data, **about))
        seconds = _patience(call, answer)
        waited = await served.commands.send(
            call.aggregate_id, command, data, wait=asked.wait, patience=seconds, **about
        )
        return answer.to(waited.outcome, waited.stage)
    except InvalidRecord as error:
        raise invalid(_field(error.field), error.reason) from None


def _known(command: str, domain: Domain[Any]) -> tuple[str, bool]:
    """The command, and whether its payload has a type."""
    try:
        rule = domain.rule(command)
    except InvalidRecord as error:
        raise RequestRefused(NO_COMMAND, error.reason) from None
    return command, command_class(rule) is not None


def _patience(call: RequestContext, answer: "_Answer") -> float:
    """How long to wait: what is preferred, within the limit, or else as long as for an answer."""
    preferred = patience(call.request)
    if preferred is None:
        seconds = call.limits.seconds
    else:
        seconds = min(preferred, call.limits.patience)
        answer.headers["Preference-Applied"] = f"wait={seconds}"
    call.bound.take(seconds)
    return seconds


def _field(name: str) -> str:
    """As the request has it: the body is the payload."""
    return FIELDS.get(name, name.removeprefix("data."))


class _Answer:
    """Answers for one command; `done` is the status of one that is accepted."""

    def __init__(self, command_id: str, done: int) -> None:
        self._command_id, self._done = command_id, done
        self.headers: dict[str, str] = {}

    def to(self, outcome: Outcome, stage: Stage | None = None) -> Response:
        match outcome:
            case Accepted():
                return self._sent(outcome, self._done, stage)
            case Repeated():
                return self._sent(outcome, 200, stage)
            case IdReused():
                raise RequestRefused(ID_REUSED, outcome.reason, field=KEY, reason=outcome.reason)
            case Rejected():
                raise self._refused(REJECTED, outcome.reason)
            case Conflict():
                raise self._refused(CONFLICT, outcome.reason)
            case Unavailable():
                raise self._refused(UNAVAILABLE, outcome.reason)
        assert_never(outcome)

    def _refused(self, kind: ProblemType, reason: str) -> RequestRefused:
        return RequestRefused(kind, reason, reason=reason, command_id=self._command_id)

    def _sent(self, outcome: Accepted | Repeated, status: int, stage: Stage | None) -> Response:
        body = SentBody(
            outcome="repeated" if isinstance(outcome, Repeated) else "accepted",
            command_id=self._command_id,
            stage=stage or UNSET,
            **told(outcome),
        )
        return json(body, status, self.headers)


OPERATIONS = [
    Operation(
        name="send",
        method="POST",
        path="/domains/{domain}/{id}/commands/{command}",
        right="write",
        handle=send,
        answers={200: SentBody, 202: SentBody},
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
        parameters=SendParameters,
        headers=(KEY, PREFER, CORRELATION, CAUSATION, TRACEPARENT),
    )
]
