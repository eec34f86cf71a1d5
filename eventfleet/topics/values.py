"""The rule for values, the same at every door, and the words of a refusal."""

import math
import re
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from eventfleet.topics.errors import InvalidRecord

INT64 = range(-(2**63), 2**63)
MAX_INT64_CHARS = 20
BEYOND_INT64 = "is beyond a 64-bit integer"
FIRST_INEXACT_FLOAT = 2**53
"""From here on, a float may stand for an integer beside it."""
MAX_FLOAT_DIGITS = 767
"""No float has more significant digits, written in full."""
MAX_ID_CHARS = 255
MAX_DEPTH = 60
NESTED_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"
EMPTY, TOO_LONG = "is empty", "has more than {} characters"
NOT_UTF8 = "is not UTF-8"
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON of the expected shape."""

TIME_TYPES = (inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType)

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def read_number(text: str, decimal: str = ".") -> int | float | Decimal:
    """Read a number of a text, as `number_text` does. ValueError: it is none, or beyond 64 bits."""
    number = number_text(text, decimal)
    whole = number.lstrip("-").isdigit()
    value = int(number) if whole and len(number) <= MAX_INT64_CHARS else read_float(number)
    if whole and isinstance(value, float | Decimal):
        raise ValueError(f"{number[:60]} {BEYOND_INT64}")
    if fault := find_range_fault(value):
        raise ValueError(fault)
    return value


def read_integer(text: str) -> int:
    """Read an integer without a fraction, an exponent or spaces. ValueError: it is none."""
    if not _INTEGER.fullmatch(text):
        number_text(text)
        raise ValueError(f"{text[:60]!r} is not an integer")
    number = read_number(text)
    assert isinstance(number, int)
    return number


def read_declared(text: str, kind: Any) -> Any:
    """Read a number of a text where a type declares one, and no text; else return the text.

    A Decimal stays a text. ValueError: it is no number, or beyond 64 bits.
    """
    kinds = _flatten(_type_info(kind))
    declared = {type(each) for each in kinds}
    if declared & {inspect.StrType, inspect.AnyType}:
        return text
    if inspect.DecimalType in declared:
        return number_text(text)
    is_number = declared & {inspect.IntType, inspect.FloatType}
    return _fit(read_number(text), kinds, "") if is_number else text


def number_text(text: str, decimal: str = ".") -> str:
    """Return a number of a text as JSON writes it; spaces around it don't count.

    ValueError: it is none, with this decimal mark.
    """
    number = text.strip(" ")
    if decimal != ".":
        number = number.replace(".", "?").replace(decimal, ".")
    if not _NUMBER.fullmatch(number):
        mark = "" if decimal == "." else f" with {decimal!r} as decimal mark"
        raise ValueError(f"{text[:60]!r} is not a number{mark}")
    return number


def read_float(text: str) -> float | Decimal:
    """Read a number with a fraction or an exponent; a Decimal where a float loses a digit."""
    number = float(text)
    if (written := repr(number)) == text:
        return number
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent of 18 digits and more
        return Decimal("Infinity") if math.isinf(number) else number
    return number if exact.as_tuple() == Decimal(written).as_tuple() else exact


def find_range_fault(number: int | float | Decimal) -> str:
    """Return what is wrong with a number that is beyond 64 bits, or nothing."""
    if isinstance(number, int):
        return "" if number in INT64 else f"{number} {BEYOND_INT64}"
    return "" if math.isfinite(float(number)) else f"{number} is beyond a 64-bit float"


def fit_numbers(value: Any, kind: Any, at: str = "") -> Any:
    """Return a JSON value whose numbers are as the types declare.

    Where a Decimal is declared it stays; where an integer is and no float, 5.0 is 5; elsewhere a
    Decimal is a float. InvalidRecord where nothing is declared, and a float would lose digits; and
    for a text that is no number where a Decimal is declared, and no text.
    """
    return _fit(value, _flatten(_type_info(kind)), at)


def _fit(value: Any, kinds: list[inspect.Type], at: str) -> Any:
    if isinstance(value, dict):
        return {
            name: _fit(inner, _members(kinds, name), f"{at}.{name}" if at else name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_fit(each, _members(kinds, n), f"{at}[{n}]") for n, each in enumerate(value)]
    if isinstance(value, str) and any(isinstance(kind, inspect.DecimalType) for kind in kinds):
        return _fit_text(value, kinds, at)
    return _fit_number(value, kinds, at) if isinstance(value, float | Decimal) else value


def _fit_text(text: str, kinds: list[inspect.Type], at: str) -> str:
    if any(isinstance(kind, inspect.StrType) for kind in kinds):
        return text
    try:
        return number_text(text)
    except ValueError as error:
        raise InvalidRecord(at or "value", str(error)) from None


def _fit_number(number: float | Decimal, kinds: list[inspect.Type], at: str) -> Any:
    declared = {type(kind) for kind in kinds}
    if inspect.DecimalType in declared:
        return number
    if inspect.FloatType not in declared and inspect.IntType in declared:
        rounded = float(number)
        exact = rounded.is_integer() and abs(rounded) < FIRST_INEXACT_FLOAT
        return int(rounded) if exact else rounded
    rounded = float(number)
    if isinstance(number, Decimal) and inspect.AnyType in declared and not _gives(rounded, number):
        reason = "has more digits than a number keeps here: send it as a text"
        raise InvalidRecord(at or "value", f"{number} {reason}")
    return rounded


def _gives(rounded: float, number: Decimal) -> bool:
    """Return whether the float, written with as many digits, is the number again."""
    digits = min(len(number.as_tuple().digits), MAX_FLOAT_DIGITS)
    return Decimal(f"{rounded:.{digits - 1}e}") == number


def _members(kinds: list[inspect.Type], key: str | int) -> list[inspect.Type]:
    """The types of a member or an item, of values of these types."""
    found: list[inspect.Type] = []
    for kind in kinds:
        if isinstance(kind, inspect.DictType):
            found += _flatten(kind.value_type)
        elif isinstance(kind, inspect.TupleType) and isinstance(key, int):
            found += [each for item in kind.item_types[key : key + 1] for each in _flatten(item)]
        elif item := getattr(kind, "item_type", None):
            found += _flatten(item)
        elif fields := getattr(kind, "fields", None):
            found += [e for f in fields if f.encode_name == key for e in _flatten(f.type)]
        elif isinstance(kind, inspect.AnyType):
            found.append(kind)
    return found


def _flatten(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _flatten(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [each for member in kind.types for each in _flatten(member)]
    return [kind]


_type_info = cache(inspect.type_info)


def declares_time(kind: Any) -> bool:
    """Return whether a type is that of a time, which is never a number."""
    return any(isinstance(each, TIME_TYPES) for each in _flatten(_type_info(kind)))


@cache
def declares_decimal(kind: type[msgspec.Struct]) -> bool:
    """Return whether a Decimal is declared anywhere in a type."""
    left, seen = [_type_info(kind)], set[int]()
    while left:
        each = left.pop()
        if isinstance(each, inspect.DecimalType):
            return True
        if id(each) not in seen:
            seen.add(id(each))
            for name in ("type", "types", "item_type", "item_types", "value_type", "fields"):
                inner = getattr(each, name, ())
                left += inner if isinstance(inner, tuple) else [inner]
    return False


def has_decimals(value: Any) -> bool:
    """Return whether a number in a JSON value has digits that a float would lose."""
    if isinstance(value, dict):
        return any(map(has_decimals, value.values()))
    return any(map(has_decimals, value)) if isinstance(value, list) else type(value) is Decimal


def require_finite(value: Any, at: str) -> None:
    """Raise InvalidRecord for the first number of a plain value that is infinite, or none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            require_finite(inner, f"{at}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, inner in enumerate(value):
            require_finite(inner, f"{at}[{index}]")
    elif isinstance(value, float | Decimal) and not math.isfinite(value):
        raise InvalidRecord(at, f"{value} is not a number that JSON has")


def check_identifier(text: str) -> str:
    """Return the id or name of anything. ValueError: it is empty, too long or has a NUL."""
    if not text:
        raise ValueError(EMPTY)
    if len(text) > MAX_ID_CHARS:
        raise ValueError(TOO_LONG.format(MAX_ID_CHARS))
    if "\0" in text:
        raise ValueError("has a NUL")
    return text


def decode_text(raw: bytes, at: str = "value") -> str:
    """Decode UTF-8. InvalidRecord, for the field `at`."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is {raw[error.start]:#04x}"
        raise InvalidRecord(at, f"{NOT_UTF8}: {byte}") from None


def require_text(text: str, at: str = "value") -> str:
    """Return a text that Python has of foreign bytes. InvalidRecord where they are not UTF-8."""
    return text if text.isascii() else decode_text(text.encode(errors="surrogateescape"), at)
