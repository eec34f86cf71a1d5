"""Commands: POST /domains/{domain}/{id}/commands/{command}."""

from typing import Any, assert_never

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    Failed,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    VersionConflict,
    outcome_fields,
)
from eventfleet.model.domain import Domain
from eventfleet.service.event_service import SendOptions
from eventfleet.stores.contracts import Disposition, Stage
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EXPECTED_VERSION
from eventfleet.web.bodies import CommandResult, EventDisposition
from eventfleet.web.context import RequestContext
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import SendParameters
from eventfleet.web.preconditions import (
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    etag,
    expected_version,
    expecting_header,
)
from eventfleet.web.problems import (
    AGGREGATE_PARKED,
    BODY_LATE,
    CONFLICT,
    DECIDE_FAILED,
    FAILURES,
    ID_REUSED,
    NOT_JSON,
    REJECTED,
    REPLAY_FAILED,
    TOO_LARGE,
    UNAVAILABLE,
    UNKNOWN_COMMAND,
    UNKNOWN_DOMAIN,
    VERSION_CONFLICT,
    ProblemType,
    RequestRefused,
    invalid,
)
from eventfleet.web.request_body import json_object
from eventfleet.web.requests import (
    ACTOR,
    CORRELATION_ID,
    PREFER,
    TRACEPARENT,
    header,
    path_part,
    preferred_wait_seconds,
    traceparent,
)
from eventfleet.web.responses import json_response

IDEMPOTENCY_KEY = "Idempotency-Key"
CAUSATION_ID = "X-Causation-ID"
REQUEST_PARTS = {"subject": "id", "id": IDEMPOTENCY_KEY, "data": "body", "value": "body"}
"""By a record's field: the part of the request that it comes from."""

DECIDE_SHARE = 0.9
"""The share of a request's time for the decision, so that its own timeout comes first."""

_ids = Uuid7Generator()


async def send(context: RequestContext) -> Response:
    """Sends one command to an aggregate.

    The header Idempotency-Key is the command's id: a request with the same key is the same command
    and takes effect once. Without the header the service generates an id. In a synchronous domain
    `If-Match` names the version that the aggregate must be at, as the ETag of its state does: at
    another one nothing is done, and the status is 412. `If-Match: *` demands that it has events,
    `If-None-Match: *` that it has none. `X-Actor` names who sends the command where no tokens are
    needed; otherwise that is the token's subject. With `wait` the response comes when the event has
    reached that stage, or after the seconds of `Prefer: wait=N`, and reports the stage that was
    reached. It comes earlier where the event does not reach it by itself: `disposition` then says
    that it is parked, discarded, superseded or unreadable, and in which role.
    """
    request, services = context.request, context.services
    command = path_part(request, "command")
    _require_command(command, services.domain)
    key = header(request, IDEMPOTENCY_KEY)
    command_id = key or _ids.new()
    options = _send_options(context, command_id, is_new=not key)
    responder = _Responder(command_id, 200 if services.domain.synchronous else 202)
    with context.bodies.hold(context.grant.caller) as held:
        data = await json_object(context, held, or_empty=True)
        try:
            return await _send(context, command, data, options, responder)
        except InvalidRecord as error:
            raise invalid(_request_part(error.field, request), error.reason) from None


async def _send(
    context: RequestContext,
    command: str,
    data: dict[str, Any],
    options: SendOptions,
    responder: "_Responder",
) -> Response:
    commands, aggregate_id = context.services.commands, context.aggregate_id
    stage = context.parameters.wait
    if stage is UNSET:
        return responder.respond(await commands.send(aggregate_id, command, data, **options))
    seconds = _wait_seconds(context, responder)
    waited = await commands.send(
        aggregate_id, command, data, wait=stage, patience=seconds, **options
    )
    return responder.respond(waited.outcome, waited.stage, waited.disposition)


def _require_command(command: str, domain: Domain[Any]) -> None:
    """RequestRefused: the domain has no such command."""
    try:
        domain.rule(command)
    except InvalidRecord as error:
        raise RequestRefused(UNKNOWN_COMMAND, error.reason) from None


def _send_options(context: RequestContext, command_id: str, *, is_new: bool) -> SendOptions:
    request = context.request
    return SendOptions(
        command_id=command_id,
        is_new=is_new,
        expected_version=expected_version(request),
        correlation_id=header(request, CORRELATION_ID),
        causation_id=header(request, CAUSATION_ID),
        actor=context.actor,
        traceparent=traceparent(request),
        timeout=context.limits.timeout_seconds * DECIDE_SHARE,
    )


def _wait_seconds(context: RequestContext, responder: "_Responder") -> float:
    """Returns the preferred seconds within the limit, by default as long as for a response.

    The request's own timeout is extended by them.
    """
    preferred = preferred_wait_seconds(context.request)
    if preferred is None:
        seconds = context.limits.timeout_seconds
    else:
        seconds = min(preferred, context.limits.wait_seconds)
        responder.headers["Preference-Applied"] = f"wait={seconds}"
    context.timeout.extend(seconds)
    return seconds


def _request_part(field: str, request: Request) -> str:
    if field == EXPECTED_VERSION:
        return expecting_header(request)
    return REQUEST_PARTS.get(field, field.removeprefix("data."))


class _Responder:
    """Turns the outcome of one command into a response or an error."""

    def __init__(self, command_id: str, accepted_status: int) -> None:
        self._command_id, self._accepted_status = command_id, accepted_status
        self.headers: dict[str, str] = {}

    def respond(
        self,
        outcome: Outcome,
        stage: Stage | None = None,
        disposition: Disposition | None = None,
    ) -> Response:
        match outcome:
            case Accepted():
                return self._result(outcome, self._accepted_status, stage, disposition)
            case Repeated():
                return self._result(outcome, 200, stage, disposition)
            case IdReused():
                reason = outcome.reason
                raise RequestRefused(ID_REUSED, reason, field=IDEMPOTENCY_KEY, reason=reason)
            case Rejected():
                raise self._refusal(REJECTED, outcome.reason)
            case VersionConflict():
                raise self._version_conflict(outcome)
            case Conflict():
                raise self._refusal(CONFLICT, outcome.reason)
            case Unavailable():
                raise self._refusal(UNAVAILABLE, outcome.reason)
            case Failed():
                problem_type = FAILURES[outcome.problem]
                raise self._refusal(problem_type, outcome.reason, outcome.details)
        assert_never(outcome)

    def _refusal(
        self, problem_type: ProblemType, reason: str, traceback: str = ""
    ) -> RequestRefused:
        return RequestRefused(
            problem_type, reason, traceback=traceback, reason=reason, command_id=self._command_id
        )

    def _version_conflict(self, outcome: VersionConflict) -> RequestRefused:
        return RequestRefused(
            VERSION_CONFLICT,
            outcome.reason,
            headers={ETAG: etag(outcome.version)},
            reason=outcome.reason,
            command_id=self._command_id,
            version=outcome.version,
        )

    def _result(
        self,
        outcome: Accepted | Repeated,
        status: int,
        stage: Stage | None,
        disposition: Disposition | None,
    ) -> Response:
        body = CommandResult(
            outcome="repeated" if isinstance(outcome, Repeated) else "accepted",
            command_id=self._command_id,
            stage=stage or UNSET,
            disposition=_brief(disposition) if disposition else UNSET,
            **outcome_fields(outcome),
        )
        return json_response(body, status, self.headers)


def _brief(disposition: Disposition) -> EventDisposition:
    """Returns a disposition without what an exception says: that may quote anything."""
    name, _, _ = disposition.reason.partition(":")
    return EventDisposition(kind=disposition.kind, role=disposition.role, reason=name)


OPERATIONS = [
    Operation(
        name="send",
        method="POST",
        path="/domains/{domain}/{id}/commands/{command}",
        right="write",
        handler=send,
        responses={200: CommandResult, 202: CommandResult},
        problems=(
            UNKNOWN_DOMAIN,
            UNKNOWN_COMMAND,
            REJECTED,
            CONFLICT,
            VERSION_CONFLICT,
            BODY_LATE,
            TOO_LARGE,
            NOT_JSON,
            ID_REUSED,
            DECIDE_FAILED,
            REPLAY_FAILED,
            AGGREGATE_PARKED,
        ),
        parameters=SendParameters,
        headers=(
            *(IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, PREFER),
            *(CORRELATION_ID, CAUSATION_ID, ACTOR, TRACEPARENT),
        ),
    )
]
