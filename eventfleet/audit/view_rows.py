"""The rows that a comparison of a view sorts; those of one key are judged together."""

from typing import Any

import msgspec

NOT_JUDGED = -1


class ComparedRow(msgspec.Struct, array_like=True, tag_field="row"):
    """Base of rows; `key` is an aggregate's id, or that of a part of totals."""

    key: str


class FoldedAggregate(ComparedRow, array_like=True, tag=0):
    """An aggregate up to the last version that was folded; NOT_JUDGED: it could not be.

    `unsure`: the build may have applied events that the fold leaves out.
    """

    version: int
    unsure: bool = False


class ExpectedRow(ComparedRow, array_like=True, tag=1):
    """A row of the view that the events give."""

    id: str
    fields: dict[str, Any]


class KeptRow(ComparedRow, array_like=True, tag=2):
    """A row of the view that is stored; `version` changed it, `later` than the build's point."""

    id: str
    version: int
    later: bool
    fields: dict[str, Any]


class ExpectedPart(ComparedRow, array_like=True, tag=3):
    """A part of the totals `table` that some aggregates' rows give."""

    table: str
    fields: dict[str, Any]


class KeptPart(ComparedRow, array_like=True, tag=4):
    """A part of the totals `table` that is stored; `later`: changed after the build's point."""

    table: str
    later: bool
    fields: dict[str, Any]


AnyComparedRow = FoldedAggregate | ExpectedRow | KeptRow | ExpectedPart | KeptPart


def by_key(row: AnyComparedRow) -> str:
    """Return the key that keeps an aggregate's rows, or a part's, together."""
    return row.key
