"""The log of failed requests: the traceback stays here, the client gets the correlation id."""

import logging

from starlette.requests import Request

from eventfleet.stores.ids import Uuid7Generator
from eventfleet.web.problems import BROKEN, RequestRefused
from eventfleet.web.requests import CORRELATION_ID, header

logger = logging.getLogger(__name__)

_ids = Uuid7Generator()


def log_failure(error: Exception, refusal: RequestRefused, request: Request) -> None:
    """Logs what the service or a domain's own code failed at, and puts the id into the refusal.

    It is the id that the events of the request carry, or would have carried.
    """
    correlation_id = _given_id(request) or refusal.members.get("command_id") or _ids.new()
    refusal.members["correlation_id"] = correlation_id
    if refusal.problem_type is BROKEN:
        refusal.detail = f"the service has logged the error with the id {correlation_id}"
    what = f"{request.method} {request.scope['path']}"
    line = "%s failed, correlation id %s: %s"
    if refusal.traceback:
        logger.error(f"{line}\n%s", what, correlation_id, refusal.detail, refusal.traceback)
    else:
        logger.error(line, what, correlation_id, refusal.detail, exc_info=error)


def _given_id(request: Request) -> str | None:
    try:
        return header(request, CORRELATION_ID)
    except RequestRefused:
        return None
