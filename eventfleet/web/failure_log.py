"""The log of failed requests: the traceback stays here, the client gets the correlation id."""

import logging

from starlette.requests import Request

from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.errors import EventfleetError
from eventfleet.web.problems import BROKEN, RequestRefused, to_refusal
from eventfleet.web.requests import correlation_id

logger = logging.getLogger(__name__)

_ids = Uuid7Generator()


class StreamCutOff(EventfleetError):
    """A stream ends without its last chunk, by no fault of our code. The reason is logged."""


def cut_off(error: Exception, request: Request) -> StreamCutOff:
    """Logs in one line why a stream or socket is cut off; returns what has the server do so."""
    what = f"{request.method} {request.scope['path']}"
    reason = str(error) or to_refusal(error).detail
    fields = {"method": request.method, "path": request.scope["path"]}
    logger.warning("%s was cut off: %s", what, reason, extra=fields)
    return StreamCutOff(reason)


def log_failure(error: Exception, refusal: RequestRefused, request: Request) -> None:
    """Logs what the service or a domain's own code failed at, and puts the id into the refusal.

    It is the id that the events of the request carry, or would have carried.
    """
    known = correlation_id(request) or refusal.members.get("command_id") or _ids.new()
    refusal.members["correlation_id"] = known
    if refusal.problem_type is BROKEN:
        refusal.detail = f"the service has logged the error with the id {known}"
    what = f"{request.method} {request.scope['path']}"
    line = "%s failed, correlation id %s: %s"
    fields = {
        "correlation_id": known,
        "method": request.method,
        "path": request.scope["path"],
        "status": refusal.problem_type.status,
        "problem": refusal.problem_type.name,
        "command_id": refusal.members.get("command_id"),
    }
    if refusal.traceback:
        fields["exception"] = refusal.traceback
        text = f"{line}\n%s"
        logger.error(text, what, known, refusal.detail, refusal.traceback, extra=fields)
    else:
        logger.error(line, what, known, refusal.detail, exc_info=error, extra=fields)
