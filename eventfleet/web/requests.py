"""Parts of a request, checked: path and headers. Errors name the part."""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import MAX_ID_CHARS, check_identifier, decode_text
from eventfleet.web.problems import RequestRefused, invalid

HEADERS_SCOPE_KEY = "eventfleet.headers"
"""In a request's scope: the first header of each name. Looked up more cheaply than in starlette's
own list."""

ACTOR, CORRELATION_ID = "X-Actor", "X-Correlation-ID"
PREFER, TRACEPARENT = "Prefer", "traceparent"
LENIENT_HEADERS = (PREFER, TRACEPARENT)
"""Headers that are ignored when malformed, as their standards demand."""

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)
_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?"
)


def path_part(request: Request, name: str) -> str:
    """Returns a decoded part of the path. It may hold any character but NUL, a slash as %2F."""
    text: str = request.scope["path_params"][name]
    try:
        text = decode_text(unquote_to_bytes(text)) if "%" in text else text
        return check_identifier(text)
    except InvalidRecord as error:
        raise invalid(name, error.reason) from None
    except ValueError as error:
        raise invalid(name, str(error)) from None


def raw_header(request: Request, name: str) -> str | None:
    """Returns the first header of this name, unchecked."""
    scope = request.scope
    headers = scope.get(HEADERS_SCOPE_KEY)
    if headers is None:
        headers = scope[HEADERS_SCOPE_KEY] = dict(reversed([*scope["headers"]]))
    value: bytes | None = headers.get(_header_key(name))
    return None if value is None else value.decode("latin-1")


@lru_cache(maxsize=64)
def _header_key(name: str) -> bytes:
    return name.lower().encode("latin-1")


def header(request: Request, name: str) -> str | None:
    """Returns a header of 1 to 255 printable ASCII characters, without quotes around it."""
    text = raw_header(request, name)
    if text is None:
        return None
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _PRINTABLE.fullmatch(text) or len(text) > MAX_ID_CHARS:
        raise invalid(name, f"is not 1 to {MAX_ID_CHARS} printable ASCII characters")
    return text


def correlation_id(request: Request) -> str | None:
    """Returns the header of the correlation id, or None if it is absent or malformed."""
    try:
        return header(request, CORRELATION_ID)
    except RequestRefused:
        return None


def traceparent(request: Request) -> str | None:
    """Returns the header of W3C Trace Context, or None if it is absent or malformed."""
    text = raw_header(request, TRACEPARENT)
    return text if text and _TRACEPARENT.fullmatch(text) else None


def prefers(request: Request, media_type: str, default: str) -> bool:
    """Returns whether the Accept header names `media_type`, with no less weight than `default`."""
    weights: dict[str, float] = {}
    for each in ",".join(request.headers.getlist("accept")).split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        found = [match for part in parameters if (match := _WEIGHT.fullmatch(part))]
        weights[name] = float(found[0][1]) if found else 1.0
    asked = weights.get(media_type, 0.0)
    others = (weights[name] for name in (default, "application/*", "*/*") if name in weights)
    return asked > 0 and asked >= next(others, 0.0)


def preferred_wait_seconds(request: Request) -> int | None:
    """Returns N of `Prefer: wait=N` (RFC 7240), or None if it is absent or malformed."""
    for preference in ",".join(request.headers.getlist(PREFER)).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return int(found[1])
    return None
