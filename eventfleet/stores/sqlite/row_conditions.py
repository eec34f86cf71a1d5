"""Conditions on the rows of views, as SQL over the JSON of their fields."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from eventfleet.model.view_functions import SEPARATOR
from eventfleet.stores.contracts.views import Comparison, RowFilter, RowQuery

OPERATORS = {
    Comparison.EQUAL: "=",
    Comparison.BELOW: "<",
    Comparison.AT_MOST: "<=",
    Comparison.ABOVE: ">",
    Comparison.AT_LEAST: ">=",
}
BOUNDS = OPERATORS.keys() - {Comparison.EQUAL}
TYPES = {
    bool: "'true', 'false'",
    int: "'integer', 'real'",
    float: "'integer', 'real'",
    str: "'text'",
    list: "'array'",
    dict: "'object'",
}
"""JSON's types of the values that are compared with one."""


class Condition(NamedTuple):
    """SQL, and the values of its parameters."""

    sql: str
    values: Sequence[Any] = ()


class Selection(NamedTuple):
    """Rows for which a condition holds, in an order."""

    where: Condition
    order: str


ALWAYS, NEVER = Condition("TRUE"), Condition("FALSE")


def value_of(field: str) -> str:
    """Return the expression of a field's value, which indexes have as well."""
    return f"json_extract(fields, {_path(field)})"


def selections(query: RowQuery, ids: Condition) -> list[Selection]:
    """Return the selections that together find a query's rows of some ids, in its order."""
    required = [Condition("fields IS NOT NULL"), ids, *map(_passes, query.filters)]
    return [
        Selection(_all([*required, *behind]), _order(order_by, query.descending))
        for behind, order_by in _ranges(query)
    ]


def id_ranges(query: RowQuery) -> list[Condition]:
    """Return the conditions of the ranges of ids that a query selects, in its order."""
    if query.aggregates is None:
        return [ALWAYS]
    chosen, beginnings = query.aggregates, list[str]()
    for text in sorted([*(f"{id}{SEPARATOR}" for id in chosen.ids), *chosen.prefixes]):
        if not (beginnings and text.startswith(beginnings[-1])):
            beginnings.append(text)
    return [*map(_begins_with, reversed(beginnings) if query.descending else beginnings)]


def best_index(indexes: Iterable[Sequence[str]], query: RowQuery) -> Sequence[str]:
    """Return the fields of the index that narrows a query most, or else has its order; none: the
    primary key does as well."""

    def narrows(fields: Sequence[str]) -> tuple[int, bool, bool]:
        looked_up = [*takewhile({*equal, *among}.__contains__, fields)]
        further = fields[len(looked_up) :]
        is_bounded = further[0] in bounded if further else query.aggregates is not None
        return len(looked_up), is_bounded, [each for each in fields if each not in equal] == order

    equal = {each.field for each in query.filters if each.comparison is Comparison.EQUAL}
    among = {
        field
        for field, comparison, value in query.filters
        if comparison is Comparison.IN and None not in value
    }
    bounded = {field for field, comparison, _ in query.filters if comparison in BOUNDS}
    order = [] if query.order_by in {None, *equal} else [query.order_by]
    return max([(), *indexes], key=narrows)


def dump_json(value: Any) -> str:
    """Return JSON; equal values have one text."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _ranges(query: RowQuery) -> list[tuple[list[Condition], str | None]]:
    """Return the conditions of the ranges behind the last row of the page before, in order; each
    with the field that orders its rows."""
    order_by, beyond = query.order_by, "<" if query.descending else ">"
    if query.after is None:
        return [([], order_by)]
    value, id = query.after
    behind = Condition(f"id {beyond} ?", [id])
    if not order_by:
        return [([behind], None)]
    field = value_of(order_by)
    none = Condition(f"{field} IS NULL")
    if value is None:
        some = Condition(f"{field} IS NOT NULL")
        return [([none, behind], None), *([] if query.descending else [([some], order_by)])]
    same, further = (Condition(f"{field} {each} ?", [_bound(value)]) for each in ("=", beyond))
    last = [([none], None)] if query.descending else []
    return [([same, behind], None), ([further], order_by), *last]


def _order(order_by: str | None, descending: bool) -> str:
    direction = " DESC" if descending else ""
    columns = [value_of(order_by), "id"] if order_by else ["id"]
    return ", ".join(f"{column}{direction}" for column in columns)


def _passes(filter: RowFilter) -> Condition:
    field, comparison, value = filter
    if comparison is Comparison.IN:
        return _is_among(field, value)
    if value is None:
        is_none = Condition(f"{value_of(field)} IS NULL")
        return is_none if comparison is Comparison.EQUAL else NEVER
    compared = Condition(f"{value_of(field)} {OPERATORS[comparison]} ?", [_bound(value)])
    return _all([compared, _has_type(field, TYPES[type(value)])])


def _is_among(field: str, values: Sequence[Any]) -> Condition:
    by_types = defaultdict[str, list[Any]](list)
    for value in values:
        if value is not None:
            by_types[TYPES[type(value)]].append(value)
    found = [Condition(f"{value_of(field)} IS NULL")] if None in values else []
    for types, typed in by_types.items():
        among = f"{value_of(field)} IN (SELECT value FROM json_each(?))"
        found.append(_all([Condition(among, [dump_json(typed)]), _has_type(field, types)]))
    return _any(found)


def _has_type(field: str, types: str) -> Condition:
    return Condition(f"json_type(fields, {_path(field)}) IN ({types})")


def _begins_with(text: str) -> Condition:
    behind = text.encode() + b"\xff"  # a byte that UTF-8 does not have
    return Condition("id >= ? AND id < CAST(? AS TEXT)", [text, behind])


def _all(conditions: Sequence[Condition]) -> Condition:
    return _joined(" AND ", conditions)


def _any(conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    sql, values = _joined(" OR ", [each._replace(sql=f"({each.sql})") for each in conditions])
    return Condition(f"({sql})", values) if conditions else NEVER


def _joined(operator: str, conditions: Sequence[Condition]) -> Condition:
    values = [value for each in conditions for value in each.values]
    return Condition(operator.join(each.sql for each in conditions), values)


def _bound(value: Any) -> Any:
    return dump_json(value) if isinstance(value, list | dict) else value


def _path(field: str) -> str:
    path = f'$."{field}"'.replace("'", "''")
    return f"'{path}'"
