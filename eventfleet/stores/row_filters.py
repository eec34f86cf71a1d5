"""Filters and order of rows in memory: of the memory store, and of totals once merged."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventfleet.stores.contracts.views import Comparison, RowFilter, RowQuery, StoredRow

COMPARE: Mapping[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.BELOW: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.ABOVE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


def passes(fields: Mapping[str, Any], filters: Sequence[RowFilter]) -> bool:
    """Return whether a row passes all filters. Values of another kind than a filter's do not."""
    return all(_holds(fields.get(each.field), each.comparison, each.value) for each in filters)


def _holds(value: Any, comparison: Comparison, other: Any) -> bool:
    if comparison is Comparison.IN:
        return any(_holds(value, Comparison.EQUAL, each) for each in other)
    if other is None:
        return comparison is Comparison.EQUAL and value is None
    return _kind(value) == _kind(other) and COMPARE[comparison](value, other)


def _kind(value: Any) -> str:
    """Return the name of a value's kind; all numbers are of one, and True is none of them."""
    kind = type(value)
    return "number" if kind is int or kind is float else kind.__name__


def rank(value: Any) -> tuple[Any, ...]:
    """Return the place of a value in the order of its field; None comes before everything else."""
    return (0, 0) if value is None else (1, value)


def place(row: StoredRow, field: str | None) -> tuple[Any, str]:
    """Return the value that orders a row, and its id."""
    return (row.fields or {}).get(field) if field else None, row.id


def in_order(rows: list[StoredRow], query: RowQuery) -> list[StoredRow]:
    """Return the rows after the last one of the page before, in the query's order."""

    def key(value: Any, id: str) -> tuple[Any, ...]:
        return (*rank(value), id)

    keyed = [(key(*place(row, query.order_by)), row) for row in rows]
    keyed.sort(key=operator.itemgetter(0), reverse=query.descending)
    if query.after is not None:
        last, beyond = key(*query.after), operator.lt if query.descending else operator.gt
        keyed = [each for each in keyed if beyond(each[0], last)]
    return [row for _, row in keyed]
