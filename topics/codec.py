"""Events to bytes and back: CloudEvents 1.0 in structured JSON mode."""

import re
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import orjson

from topics.errors import Unreadable
from topics.event import MAX_EVENT_BYTES, EventRecord, milliseconds

T = TypeVar("T")

CONTENT_TYPE = b"application/cloudevents+json"
MAX_DEPTH = 60
INT64 = range(-(2**63), 2**63)

_LONG_DIGITS = re.compile(rb"\d{19}|\d[eE]\+?\d")
_AT = re.compile(r"^(?P<reason>.*?)(?: - at `(?:key in )?\$\.?(?P<field>[^`]*)`)?$", re.DOTALL)


def encode(event: EventRecord) -> bytes:
    """The event as one CloudEvents JSON object."""
    wire = msgspec.to_builtins(event, builtin_types=(datetime,))
    wire["specversion"] = "1.0"
    return orjson.dumps(wire, option=orjson.OPT_UTC_Z)


def decode(value: bytes | None) -> EventRecord:
    """The event in a record's value. Unreadable names the field and the reason."""
    if value is None:
        raise Unreadable("value", "is absent")
    if len(value) > MAX_EVENT_BYTES:
        raise Unreadable("value", f"has {len(value)} bytes, the limit is {MAX_EVENT_BYTES}")
    wire = parse(value)
    if not isinstance(wire, dict):
        raise Unreadable("value", "is not a JSON object")
    if wire.get("specversion") != "1.0":
        raise Unreadable("specversion", f"is {wire.get('specversion')!r}, only '1.0' is read")
    event = convert(wire, EventRecord)
    time = event.time
    if time.microsecond % 1000 or time.utcoffset():
        return msgspec.structs.replace(event, time=milliseconds(time))
    return event


def parse(value: bytes) -> Any:
    """JSON that every store can keep: integers within int64, no NUL in a key, depth bounded."""
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unreadable("value", f"is not JSON: {error}") from None
    if _needs_check(value):
        _check(parsed, "", 0)
    return parsed


def convert(value: Any, kind: type[T], at: str = "") -> T:
    """`value` validated as `kind`; `at` is put before the field's name in an error."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refusal(error, at) from None


def refusal(error: msgspec.ValidationError, at: str = "") -> Unreadable:
    """msgspec's message taken apart into field and reason, with the names of the wire."""
    match = _AT.match(str(error))
    reason, field = (match["reason"], match["field"] or "") if match else (str(error), "")
    missing = re.search(r"required field `([^`]*)`", reason)
    if missing:
        field, reason = ".".join(filter(None, [field, missing[1]])), "is missing"
    return Unreadable(".".join(filter(None, [at, field])) or "value", reason)


def _needs_check(value: bytes) -> bool:
    """A cheap sign that the JSON may hold what `_check` refuses."""
    if _LONG_DIGITS.search(value) or b"\\u0000" in value:
        return True
    return value.count(b"{") + value.count(b"[") > MAX_DEPTH


def _check(value: Any, at: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Unreadable(at or "value", f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key:
                raise Unreadable(at or "value", f"has a NUL in the key {key!r}")
            _check(inner, f"{at}.{key}" if at else key, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check(inner, f"{at}[{index}]", depth + 1)
    elif isinstance(value, int) and value not in INT64:
        raise Unreadable(at or "value", f"{value} is beyond a 64-bit integer")
    elif isinstance(value, float) and value.is_integer() and abs(value) >= 2**63:
        raise Unreadable(at or "value", f"{value:.0f} is beyond a 64-bit integer")
