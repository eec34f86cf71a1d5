"""Converts the rows of views to plain values, and back."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from eventfleet.model.views import Row

R = TypeVar("R", bound=Row)


def encode_row(row: Row) -> dict[str, Any]:
    """Convert a row to plain values; datetimes stay, for stores to order by."""
    plain: dict[str, Any] = msgspec.to_builtins(
        row, builtin_types=(datetime,), str_keys=True, order="deterministic"
    )
    return plain


def decode_row(kind: type[R], fields: dict[str, Any]) -> R:
    """Convert plain values back to a row. ValidationError: they do not fit."""
    return msgspec.convert(fields, kind, str_keys=True, builtin_types=(datetime,))


def encode_group(empty: Row) -> str:
    """Return a text that stands for the group which an empty total is that of."""
    return msgspec.json.encode(empty, order="deterministic").decode()


def decode_group(kind: type[R], text: str) -> R:
    """Return the empty total of a group."""
    return msgspec.json.decode(text, type=kind)
