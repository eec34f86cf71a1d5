"""What a request asks: its parts, checked, with errors that name them."""

import re
from collections import defaultdict
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import ClientDisconnect, Request

from eventfleet.stores.contracts import Stage
from eventfleet.topics.codec import parse, refusal
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_ID, Identifier, Instant
from eventfleet.web.bodies import JSON, Version
from eventfleet.web.problems import NOT_JSON, TOO_LARGE, RequestRefused, invalid

Q = TypeVar("Q", bound="Parameters")

Limit = Annotated[int, Meta(ge=1, le=1_000)]
After = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Cursor = Annotated[str, Meta(max_length=40_000, pattern=r"^[A-Za-z0-9_-]*\Z")]

EXACT = 2**53
HEADERS = "eventfleet.headers"
"""In a request's scope: the first header of each name."""

PREFER, TRACEPARENT = "Prefer", "traceparent"
LENIENT = (PREFER, TRACEPARENT)
"""Headers that count as absent where they are not well-formed, as their standards want it."""

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?"
)


class Parameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of what may stand behind the `?`."""


class SendParameters(Parameters):
    wait: Stage | UnsetType = UNSET


class EventsParameters(Parameters):
    after: After = 0
    limit: Limit | UnsetType = UNSET
    types: list[Identifier] = []


class StateParameters(Parameters):
    version: Version | UnsetType = UNSET
    at: Instant | UnsetType = UNSET


class DiffParameters(Parameters):
    first: After
    second: After


class MissingParameters(Parameters):
    after: After
    limit: Limit = 100


class PageParameters(Parameters, rename={"start": "from"}):
    start: Cursor = ""
    limit: Limit = 100


LISTS: dict[type[Parameters], set[str]] = {EventsParameters: {"types"}}


def parameters(request: Request, kind: type[Q]) -> Q:
    """What stands behind the `?`. Refused names a parameter that is unknown, doubled or wrong."""
    query: bytes = request.scope["query_string"]
    return _read(query.decode("latin-1"), kind) if query else _converted({}, kind)


def _read(query: str, kind: type[Q]) -> Q:
    given: dict[str, list[str]] = defaultdict(list)
    for name, value in parse_qsl(query, keep_blank_values=True):
        given[name].append(value)
    lists = LISTS.get(kind, ())
    plain = {name: values if name in lists else values[0] for name, values in given.items()}
    for name, values in given.items():
        if len(values) > 1 and name not in lists:
            raise invalid(name, "is given twice")
    return _converted(plain, kind)


def _converted(given: dict[str, Any], kind: type[Q]) -> Q:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        wrong = refusal(error)
        raise invalid(wrong.field, wrong.reason) from None


def part(request: Request, name: str) -> str:
    """A part of the path, decoded: it may hold any character, a slash as %2F."""
    text: str = request.scope["path_params"][name]
    try:
        text = unquote(text, errors="strict") if "%" in text else text
    except UnicodeDecodeError:
        raise invalid(name, "is not UTF-8") from None
    if len(text) > MAX_ID:
        raise invalid(name, f"has {len(text)} characters, the limit is {MAX_ID}")
    if "\0" in text:
        raise invalid(name, "has a NUL")
    return text


def raw_header(request: Request, name: str) -> str | None:
    """The first header of this name, as it came."""
    scope = request.scope
    headers = scope.get(HEADERS)
    if headers is None:
        headers = scope[HEADERS] = dict(reversed([*scope["headers"]]))
    value: bytes | None = headers.get(_on_the_wire(name))
    return None if value is None else value.decode("latin-1")


@lru_cache(maxsize=64)
def _on_the_wire(name: str) -> bytes:
    return name.lower().encode("latin-1")


def header(request: Request, name: str) -> str | None:
    """A header of 1 to 255 printable ASCII characters; quotes around it do not count."""
    text = raw_header(request, name)
    if text is None:
        return None
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _PRINTABLE.fullmatch(text) or len(text) > MAX_ID:
        raise invalid(name, f"is not 1 to {MAX_ID} printable ASCII characters")
    return text


def traceparent(request: Request) -> str | None:
    """That of W3C Trace Context; one that is none counts as absent."""
    text = raw_header(request, TRACEPARENT)
    return text if text and _TRACEPARENT.fullmatch(text) else None


def patience(request: Request) -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240); what is none counts as absent."""
    for preference in ",".join(request.headers.getlist(PREFER)).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return int(found[1])
    return None


async def payload(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in the body. Refused where it is none or has more than `limit` bytes."""
    kind = (raw_header(request, "content-type") or "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise RequestRefused(NOT_JSON, f"its Content-Type is {kind or 'absent'}, not {JSON}")
    try:
        data = parse(await _body(request, limit))
    except InvalidRecord as error:
        field = "body" if error.field == "value" else error.field
        raise invalid(field, error.reason) from None
    if not isinstance(data, dict):
        raise invalid("body", "is not a JSON object")
    return data


def whole(value: Any) -> Any:
    """As JSON Schema has it, 5.0 is an integer: made one where nothing is lost by that."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value


async def _body(request: Request, limit: int) -> bytes:
    length = raw_header(request, "content-length") or ""
    _within(limit, int(length) if length.isdecimal() else 0)
    parts, size, more = list[bytes](), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        parts.append(piece)
        size += len(piece)
        _within(limit, size)
    return b"".join(parts)


def _within(limit: int, size: int) -> None:
    if size > limit:
        raise RequestRefused(TOO_LARGE, f"the limit is {limit} bytes")
