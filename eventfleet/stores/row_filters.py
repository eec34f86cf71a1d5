"""Filters of rows in memory: for the in-memory store, and for totals once they are merged."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventfleet.stores.contracts.views import Comparison, RowFilter

COMPARE: Mapping[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.BELOW: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.ABOVE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
    Comparison.IN: lambda value, values: value in values,
}


def passes(fields: Mapping[str, Any], filters: Sequence[RowFilter]) -> bool:
    """Return whether a row passes all filters. Values of another type than a filter's do not."""
    return all(_holds(fields.get(each.field), each) for each in filters)


def _holds(value: Any, condition: RowFilter) -> bool:
    try:
        return COMPARE[condition.comparison](value, condition.value)
    except TypeError:
        return False


def rank(value: Any) -> tuple[Any, ...]:
    """Return the place of a value in the order of its field; None comes before everything else."""
    return (0, 0) if value is None else (1, value)
