"""The log of requests: one line for each, without tokens, bodies and values of parameters."""

import logging

from starlette.requests import Request
from starlette.types import Scope

from eventfleet.web.requests import correlation_id

SUBJECT_SCOPE_KEY = "eventfleet.subject"
"""In a request's scope: the subject of the caller's token, once it is known."""

MAX_PATH_CHARS = 1_000
MAX_PARAMETERS = 20
MAX_NAME_CHARS = 50

logger = logging.getLogger(__name__)


def log_request(scope: Scope, route: str, status: int, seconds: float) -> None:
    """Log a request that is answered."""
    request, subject = Request(scope), scope.get(SUBJECT_SCOPE_KEY)
    fields = {
        "method": scope["method"],
        "route": route,
        "path": scope["path"][:MAX_PATH_CHARS],
        "parameters": _parameter_names(scope["query_string"]) or None,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "subject": subject,
        "correlation_id": correlation_id(request),
    }
    names = ",".join(fields["parameters"] or ())
    logger.info(
        "%s %s %s %d %.1f ms, subject %s, correlation id %s",
        fields["method"],
        route,
        f"{fields['path']}?{names}" if names else fields["path"],
        status,
        fields["milliseconds"],
        "-" if subject is None else ascii(subject),
        fields["correlation_id"] or "-",
        extra=fields,
    )


def _parameter_names(query: bytes) -> list[str]:
    """Return the names, as they are in the URL; a part without a name may be a value."""
    parts = query.decode("ascii", "replace").split("&", MAX_PARAMETERS)[:MAX_PARAMETERS]
    return [part.partition("=")[0][:MAX_NAME_CHARS] for part in parts if "=" in part]
