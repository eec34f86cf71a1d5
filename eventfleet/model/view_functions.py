"""Checks what the functions of a view return, and makes the ids of rows and of totals' parts."""

from typing import Any, NamedTuple

from eventfleet.model.view_rows import as_stored, encode_group
from eventfleet.model.views import Row, Table, Totals, View

SEPARATOR = "\0"


class Group(NamedTuple):
    """A group of totals: the id of a partition's part, and its empty total."""

    part_id: str
    empty: Row


def check_key(view: View[Any], key: Any) -> str | None:
    """Return a row's key. TypeError: it is none."""
    if key is None or (isinstance(key, str) and SEPARATOR not in key and _is_text(key)):
        return key
    raise TypeError(f"view {view.name}: the key is {key!r}, not a str without NUL, or None")


def _is_text(key: str) -> bool:
    """Return False for half of a surrogate pair, which no store keeps."""
    return key.isascii() or bool(key.encode(errors="ignore").decode() == key)


def made_row(table: Table, function: str, made: Any) -> Row | None:
    """Return the row that a function made, as it will be read. TypeError: it is no such row."""
    if made is None:
        return None
    if type(made) is not table.row:
        wanted = table.row.__name__
        raise TypeError(f"{table.name}: {function} returned {made!r}, not a {wanted} or None")
    row: Row = as_stored(made)
    return row


def made_part(totals: Totals[Any, Any], function: str, made: Any) -> Row:
    """Return the part that a function made, as it will be read. TypeError: it is no such row."""
    if type(made) is not totals.row:
        wanted = totals.row.__name__
        raise TypeError(f"{totals.name}: {function} returned {made!r}, not a {wanted}")
    row: Row = as_stored(made)
    return row


def group_of(totals: Totals[Any, Any], row: Row, partition: int) -> Group | None:
    """Return the group that a row is in."""
    empty = made_row(totals, "group", totals.group(row))
    return None if empty is None else Group(part_id(empty, partition), empty)


def row_id(aggregate_id: str, key: str) -> str:
    """Return the id of a row; no two aggregates and keys share one."""
    return f"{aggregate_id}{SEPARATOR}{key}"


def part_id(empty: Row, partition: int) -> str:
    """Return the id of a partition's part of a group, which its empty total stands for."""
    return f"{encode_group(empty)}{SEPARATOR}{partition}"
