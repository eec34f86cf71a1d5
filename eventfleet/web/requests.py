"""Parts of a request, checked: path, headers and JSON body. Errors name the part."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request

from eventfleet.topics.codec import parse
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_ID_CHARS
from eventfleet.web.bodies import JSON
from eventfleet.web.problems import NOT_JSON, TOO_LARGE, RequestRefused, invalid

MAX_EXACT_INTEGER = 2**53
"""Floats represent each integer up to this one."""

HEADERS_SCOPE_KEY = "eventfleet.headers"
"""In a request's scope: the first header of each name. Looked up more cheaply than in starlette's
own list."""

PREFER, TRACEPARENT = "Prefer", "traceparent"
LENIENT_HEADERS = (PREFER, TRACEPARENT)
"""Headers that are ignored when malformed, as their standards demand."""

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?"
)


def path_part(request: Request, name: str) -> str:
    """Returns a decoded part of the path. It may hold any character but NUL, a slash as %2F."""
    text: str = request.scope["path_params"][name]
    try:
        text = unquote(text, errors="strict") if "%" in text else text
    except UnicodeDecodeError:
        raise invalid(name, "is not UTF-8") from None
    if len(text) > MAX_ID_CHARS:
        raise invalid(name, f"has {len(text)} characters; the limit is {MAX_ID_CHARS}")
    if "\0" in text:
        raise invalid(name, "contains a NUL character")
    return text


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


def traceparent(request: Request) -> str | None:
    """Returns the header of W3C Trace Context, or None if it is absent or malformed."""
    text = raw_header(request, TRACEPARENT)
    return text if text and _TRACEPARENT.fullmatch(text) else None


def preferred_wait_seconds(request: Request) -> int | None:
    """Returns N of `Prefer: wait=N` (RFC 7240), or None if it is absent or malformed."""
    for preference in ",".join(request.headers.getlist(PREFER)).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return int(found[1])
    return None


async def json_object(request: Request, limit_bytes: int) -> dict[str, Any]:
    """Reads the body. RequestRefused: it is too large, or no JSON object."""
    media_type = (raw_header(request, "content-type") or "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise RequestRefused(NOT_JSON, f"the Content-Type is {media_type or 'absent'}, not {JSON}")
    try:
        data = parse(await _body(request, limit_bytes))
    except InvalidRecord as error:
        field = "body" if error.field == "value" else error.field
        raise invalid(field, error.reason) from None
    if not isinstance(data, dict):
        raise invalid("body", "is not a JSON object")
    return data


def floats_to_integers(value: Any) -> Any:
    """Converts floats such as 5.0, which are integers in JSON Schema, where that loses nothing."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_INTEGER:
        return int(value)
    if isinstance(value, dict):
        return {name: floats_to_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [floats_to_integers(inner) for inner in value]
    return value


async def _body(request: Request, limit_bytes: int) -> bytes:
    length = raw_header(request, "content-length") or ""
    _check_size(int(length) if length.isdecimal() else 0, limit_bytes)
    chunks, size, more = list[bytes](), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        chunks.append(chunk)
        size += len(chunk)
        _check_size(size, limit_bytes)
    return b"".join(chunks)


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise RequestRefused(TOO_LARGE, f"the limit is {limit_bytes} bytes")
