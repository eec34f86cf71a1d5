"""Encodes events as CloudEvents 1.0 in structured JSON mode, and decodes them.

    {"specversion": "1.0", "id": "018f...", "type": "Placed", "source": "orders",
     "subject": "order-1", "time": "2024-05-06T07:08:09.123000Z",
     "data": {"customer": "ann", "total": 1999}, "schemaversion": 2,
     "version": 1, "position": "0-3-41"}

`source` is the domain, `subject` the aggregate id. Every store can keep what is decoded here;
anything else is InvalidRecord, with the field and the reason.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import orjson
from msgspec.structs import replace

from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import (
    EXPECTED_VERSION,
    MAX_EVENT_BYTES,
    CommandRecord,
    EventRecord,
    is_in_milliseconds,
    truncate_to_milliseconds,
)
from eventfleet.topics.json_structure import has_unique_keys, require_unique_keys
from eventfleet.topics.record import Headers
from eventfleet.topics.values import (
    DECODE_ERRORS,
    EMPTY,
    MAX_DEPTH,
    NESTED_TOO_DEEP,
    TOO_LONG,
    check_identifier,
    declares_decimal,
    decode_text,
    find_range_fault,
    fit_numbers,
    read_float,
    require_finite,
)

T = TypeVar("T")
R = TypeVar("R", bound=EventRecord)
P = TypeVar("P", bound=msgspec.Struct)

EVENT_HEADERS: Headers = (("content-type", b"application/cloudevents+json"),)
"""The headers of a record whose value is an event."""
REDRIVEN = "eventfleet-redriven"
REDRIVEN_HEADERS = (*EVENT_HEADERS, (REDRIVEN, b"1"))
"""Those of an event that comes later in its topic than events that were stored after it."""
POSITION_BYTES = 128
"""The most that version and position add to an event's bytes."""
SMALL_EVENT_BYTES = MAX_EVENT_BYTES // 4
"""Within the limit, however it is spelt: `encode` never writes over 4 times a number's bytes."""

_AT = re.compile(r"^(?P<reason>.*?)(?: - at `(?:key in )?\$\.?(?P<field>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?P<kind>required|unknown) field `(?P<field>[^`]*)`")
_LENGTH = re.compile(r"Expected `str` of length (?P<limit>>= 1|<= \d+)")
_REASONS = {"required": "is missing", "unknown": "is not a known field"}
_NOT_A_VERSION = 'is neither an integer from 0 to 2^63-1 nor "*", for any version but 0'
_NUL = b"\\u0000"

CANONICAL_PREFIX = b'{"specversion":"1.0",'
"""The first bytes of each event that `encode` writes."""
_BACKSLASH = ord("\\")  # looked for in bytes as a number: bytes would take five times as long
_ESCAPE = b"\\u"
_decode_json = msgspec.json.Decoder(EventRecord).decode
_decode_command_json = msgspec.json.Decoder(CommandRecord, float_hook=read_float).decode
_decode_digits = msgspec.json.Decoder(float_hook=read_float).decode
_FRACTION = re.compile(rb"[0-9][.eE]")
_INFINITE, _TOO_DEEP = "number is infinity", "depth limit exceeded"  # orjson's words

encode: Callable[[EventRecord], bytes] = msgspec.json.Encoder().encode
"""Encodes an event as one CloudEvents JSON object. TypeError: JSON can't write its data."""
encode_digits: Callable[[Any], bytes] = msgspec.json.Encoder(decimal_format="number").encode
"""Encodes what `parse` or `decode_command` gave, where a Decimal is a number with its digits."""


def decode(
    value: bytes | None, always_storable: Callable[[EventRecord], bool] | None = None
) -> EventRecord:
    """Decode the event in a record's value. InvalidRecord names the field and the reason.

    The limit on bytes is that of the event as `encode` writes it, before it has a version and a
    position: an event that was accepted once is readable at every later stage. `always_storable`
    returns whether stores can keep every payload that is valid for the event's schema; the caller
    who passes it must still validate the payload.
    """
    if value is not None and len(value) <= SMALL_EVENT_BYTES:
        event = decode_canonical(value, _decode_json)
        if (
            event
            and is_in_milliseconds(event.time)
            and not event.discarded
            and ((always_storable and always_storable(event)) or _is_storable(event.data, 2))
        ):
            return event
    return _decode_slowly(value, EventRecord)


def decode_command(value: bytes | None) -> CommandRecord:
    """Decode the command in a record's value, within the limits of `decode`.

    A number with digits that a float would lose is a Decimal (see `fit_numbers`).
    """
    if value is not None and len(value) <= SMALL_EVENT_BYTES:
        command = decode_canonical(value, _decode_command_json)
        if (
            command
            and is_in_milliseconds(command.time)
            and not command.discarded
            and _is_storable(command.data, 2)
            and has_unique_keys(value)
        ):
            return command
    try:
        return _decode_slowly(value, CommandRecord)
    except InvalidRecord as error:
        if error.field == EXPECTED_VERSION:
            raise InvalidRecord(error.field, _NOT_A_VERSION) from None
        raise


def _decode_slowly(value: bytes | None, kind: type[R], *, stored: bool = False) -> R:
    if value is None:
        raise InvalidRecord("value", "is absent")
    _check_size(len(value), MAX_EVENT_BYTES + POSITION_BYTES)
    event = _decode_any_spelling(value, kind)
    if event.discarded and not stored:
        raise InvalidRecord("discarded", "is for the store to say, not for writers")
    if len(value) > SMALL_EVENT_BYTES:
        _check_size(len(encode(replace(event, version=0, position=None))), MAX_EVENT_BYTES)
    if is_in_milliseconds(event.time):
        return event
    return replace(event, time=truncate_to_milliseconds(event.time))


def decode_stored(value: bytes | None) -> EventRecord:
    """Decode an event as `decode` does, when append has written it: it has passed all checks."""
    canonical = value and decode_canonical(value, _decode_json)
    return canonical or _decode_slowly(value, EventRecord, stored=True)


def decode_canonical(value: bytes, read: Callable[[bytes], T]) -> T | None:
    """Decode with `read` a value spelt as `encode` spells; None: it needs the slower way."""
    if not value.startswith(CANONICAL_PREFIX) or (_BACKSLASH in value and _ESCAPE in value):
        return None
    try:
        return read(value)
    except DECODE_ERRORS:
        return None


def _decode_any_spelling(value: bytes, kind: type[R]) -> R:
    wire = parse(value, keep_digits=kind is CommandRecord)
    if not isinstance(wire, dict):
        raise InvalidRecord("value", "is not a JSON object")
    if wire.get("specversion") != "1.0":
        raise InvalidRecord("specversion", f"is {wire.get('specversion')!r}, only '1.0' is read")
    known = wire.keys() & {"specversion", *kind.__struct_encode_fields__}
    event = convert({name: wire[name] for name in known}, kind)
    if _NUL in value:
        check_identifiers(event.id, event.type, event.aggregate_id)
    return event


def parse(value: bytes, *, keep_digits: bool = True) -> Any:
    """Parse JSON that every store can keep: integers of 64 bits, no NUL in a key, no key twice in
    an object, depth bounded.

    A number with digits that a float would lose is a Decimal where they are kept (see
    `fit_numbers`). InvalidRecord names the field and the reason.
    """
    parsed = parse_encoded(value)
    require_unique_keys(value, parsed)
    return _decode_digits(value) if keep_digits and _FRACTION.search(value) else parsed


def parse_encoded(value: bytes) -> Any:
    """Parse JSON as `parse` does, of a text that was encoded here: no key is twice in an object."""
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        decode_text(value)
        if _TOO_DEEP in str(error):
            raise InvalidRecord("value", NESTED_TOO_DEEP) from None
        if str(error).startswith(_INFINITE):
            with suppress(*DECODE_ERRORS):
                _check_storable(_decode_digits(value), "", 0)
        raise InvalidRecord("value", f"is not JSON: {error}") from None
    if _NUL in value or not _is_storable([parsed], 0):
        _check_storable(parsed, "", 0)
        # Here an integer that is too long for a 64-bit one is not a float.
        _check_storable(json.loads(value), "", 0)
    return parsed


def convert(value: Any, kind: type[T], at: str = "") -> T:
    """Validate `value` as `kind`; in an error, `at` stands before the field's name."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise to_invalid_record(error, at) from None


def convert_payload(data: Any, kind: type[P]) -> P:
    """Validate a payload, whose integers may be written as 5.0. InvalidRecord names the field."""
    if declares_decimal(kind):
        data = fit_numbers(data, kind, "data")
    try:
        payload = msgspec.convert(data, kind, str_keys=True)
    except msgspec.ValidationError as error:
        try:
            payload = msgspec.convert(fit_numbers(data, kind, "data"), kind, str_keys=True)
        except msgspec.ValidationError:
            raise to_invalid_record(error, "data") from None
    require_finite_numbers(payload)
    return payload


def require_finite_numbers(payload: msgspec.Struct) -> None:
    """Raise InvalidRecord for the first number of a payload that is infinite, or none."""
    require_finite(msgspec.to_builtins(payload, str_keys=True, builtin_types=(Decimal,)), "data")


def to_invalid_record(error: msgspec.ValidationError, at: str = "") -> InvalidRecord:
    """Take msgspec's message apart into field and reason, with the names of the wire."""
    match = _AT.match(str(error))
    reason, field = (match["reason"], match["field"] or "") if match else (str(error), "")
    named = _NAMED.search(reason)
    if named:
        field, reason = ".".join(filter(None, [field, named["field"]])), _REASONS[named["kind"]]
    elif length := _LENGTH.fullmatch(reason):
        reason = EMPTY if length["limit"] == ">= 1" else TOO_LONG.format(length["limit"][3:])
    return InvalidRecord(".".join(filter(None, [at, field])) or "value", reason)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise InvalidRecord("value", f"has {size} bytes, the limit is {limit}")


def check_identifiers(id: str, type: str, subject: str) -> None:
    """Refuse a NUL: an event's type may become a key of its state, and a key can't hold one."""
    for name, text in {"id": id, "type": type, "subject": subject}.items():
        try:
            check_identifier(text)
        except ValueError as error:
            raise InvalidRecord(name, str(error)) from None


def _is_storable(value: dict[str, Any] | list[Any], level: int) -> bool:
    """Return whether `_check_storable` would pass, keys aside; this runs for every record."""
    for inner in value.values() if isinstance(value, dict) else value:
        kind = type(inner)
        if kind is str:
            continue
        if kind is int:
            if not -(2**63) <= inner < 2**63:
                return False
        elif kind is float:
            if not -(2.0**63) < inner < 2.0**63:  # it may stand for an integer
                return False
        elif kind is Decimal:
            if find_range_fault(inner):
                return False
        elif (kind is dict or kind is list) and (
            level == MAX_DEPTH or not _is_storable(inner, level + 1)
        ):
            return False
    return True


def _check_storable(value: Any, at: str, level: int) -> None:
    """Raise InvalidRecord for the first field that no store can keep."""
    if level == MAX_DEPTH and isinstance(value, dict | list):
        raise InvalidRecord(at or "value", NESTED_TOO_DEEP)
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key:
                raise InvalidRecord(at or "value", f"has a NUL in the key {key!r}")
            _check_storable(inner, f"{at}.{key}" if at else key, level + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_storable(inner, f"{at}[{index}]", level + 1)
    elif isinstance(value, int | Decimal) and (fault := find_range_fault(value)):
        raise InvalidRecord(at or "value", fault)
