"""Converts the rows of views to plain values, and back."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from eventfleet.model.row_checks import inner_types
from eventfleet.model.type_checks import INT64_MAX, INT64_MIN
from eventfleet.model.views import Row
from eventfleet.topics.values import MAX_DEPTH

R = TypeVar("R", bound=Row)

FAITHFUL = (
    *(inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.StrType),
    *(inspect.EnumType, inspect.LiteralType, inspect.DateType, inspect.UUIDType),
    *(inspect.StructType, inspect.UnionType, inspect.Metadata, inspect.DictType),
    *(inspect.TupleType, inspect.VarTupleType, inspect.ListType),
)
"""The types whose values are read again as what they were, if those inside of them are."""


class UnstorableRow(ValueError):
    """A value that no store can keep, or that is not of its field's type."""


def encode_row(row: Row) -> dict[str, Any]:
    """Convert a row to plain values; times as texts of UTC which sort as they do.

    UnstorableRow names a field that can't be stored.
    """
    try:
        plain: dict[str, Any] = msgspec.to_builtins(
            row, builtin_types=(datetime,), str_keys=True, order="deterministic"
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableRow(f"{type(row).__name__}: {error}") from None
    for name, value in plain.items():
        kind = type(value)  # a call for each field would cost more than all the rest
        if not (
            (kind is str and value.isascii())
            or (kind is int and INT64_MIN <= value <= INT64_MAX)
            or value is None
        ):
            plain[name] = _storable(value, name, 1)
    return plain


def decode_row(kind: type[R], fields: dict[str, Any]) -> R:
    """Convert plain values back to a row. ValidationError: they do not fit."""
    return msgspec.convert(fields, kind, str_keys=True)


def check_row(row: R) -> tuple[dict[str, Any], R]:
    """Return a row as it is stored, and as it is read again. UnstorableRow names a field."""
    plain = encode_row(row)
    try:
        return plain, decode_row(type(row), plain)
    except msgspec.ValidationError as error:
        raise UnstorableRow(f"{type(row).__name__}: {error}") from None


def as_stored(row: R) -> R:
    """Return a row as it is read again: the same one, unless its class has values that change.

    What a function makes of a row must not depend on whether it was read from the store.
    """
    times = _times(type(row))
    if times is None:
        return check_row(row)[1]
    # Most times are in UTC already; to convert each row would cost more than to make it.
    for name in times:
        moment: datetime | None = getattr(row, name)
        if moment is not None and moment.tzinfo is not UTC:
            return check_row(row)[1]
    return row


@lru_cache
def _times(row: type[Row]) -> tuple[str, ...] | None:
    """Return the fields that are times, where the values of all others are faithful; else None."""
    times, others = [], []
    info: Any = inspect.type_info(row)
    for field in info.fields:
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        if any(isinstance(kind, inspect.DateTimeType) for kind in kinds):
            times.append(field.name)
            kinds = tuple(kind for kind in kinds if not isinstance(kind, inspect.DateTimeType))
            if any(not isinstance(kind, inspect.NoneType) for kind in kinds):
                return None
        else:
            others.append(field.type)
    return tuple(times) if _are_faithful(others, []) else None


@lru_cache
def _is_faithful(row: type[Row]) -> bool:
    return _are_faithful([inspect.type_info(row)], [])


def _are_faithful(kinds: Iterable[Any], seen: list[Any]) -> bool:
    for kind in kinds:
        if any(kind is each for each in seen):
            continue
        seen.append(kind)
        whole = isinstance(kind, FAITHFUL)
        if not whole or not _are_faithful(inner_types(kind), seen):
            return False
    return True


def _storable(value: Any, at: str, level: int) -> Any:
    """Return a plain value as stores keep it."""
    kind = type(value)
    if level > MAX_DEPTH:
        raise UnstorableRow(f"{at} is nested deeper than {MAX_DEPTH} levels")
    if kind is str:
        if not value.isascii():
            _check_text(value, at)
    elif kind is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise UnstorableRow(f"{at} is {value}: beyond a 64-bit integer")
    elif kind is float:
        if not math.isfinite(value):
            raise UnstorableRow(f"{at} is {value}: JSON has no such number")
    elif kind is datetime:
        return _sortable(value, at)
    elif kind is list or kind is tuple:
        return [_storable(each, f"{at}[{n}]", level + 1) for n, each in enumerate(value)]
    elif kind is dict:
        return {
            _key(key, at): _storable(each, f"{at}.{key}", level + 1) for key, each in value.items()
        }
    return value


def _sortable(moment: datetime, at: str) -> str:
    if moment.tzinfo is None:
        raise UnstorableRow(f"{at} is {moment}: a time without a time zone")
    if moment.tzinfo is not UTC:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise UnstorableRow(f"{at} is {moment}: outside the years 1 to 9999 in UTC") from None
    text: str = msgspec.to_builtins(moment)
    return text if moment.microsecond else f"{text[:-1]}.000000Z"


def _key(key: str, at: str) -> str:
    _check_text(key, at)
    if "\0" in key:
        raise UnstorableRow(f"{at} has the key {key!r}, with a NUL")
    return key


def _check_text(text: str, at: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstorableRow(f"{at} is {text!r}: half of a surrogate pair") from None


def encode_group(empty: Row) -> str:
    """Return a text that stands for the group which an empty total is that of."""
    plain = empty if _is_faithful(type(empty)) else encode_row(empty)
    return msgspec.json.encode(plain, order="deterministic").decode()


def decode_group(kind: type[R], text: str) -> R:
    """Return the empty total of a group."""
    return msgspec.json.decode(text, type=kind)
