"""Views: read models that a domain declares, each a pure function of a row and an event.

class Balance(Row):
    owner: str
    cents: int = 0

def project_balance(row: Balance | None, event: ProjectedEvent) -> Balance | None:
    match event.data:
        case Opened(owner=owner):
            return Balance(owner=owner)
        case Deposited(amount=amount):
            return replace(row, cents=row.cents + amount)
    return row

balances = View("balances", row=Balance, project=project_balance)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from eventfleet.model.payloads import FROZEN
from eventfleet.model.row_checks import find_row_fault
from eventfleet.model.shapes import digest, fingerprint
from eventfleet.topics.event import FoldableEvent

VIEW_NAME = r"[a-z][a-z0-9_]{0,49}"
NAME_RULE = "must begin with a-z and go on with up to 49 of a-z, 0-9 and _"


class Row(msgspec.Struct, kw_only=True, **FROZEN):
    """Base of a view's row.

    What JSON can hold can be in a row. Times need a time zone, and are kept in UTC. A function of a
    view returns another row; it never changes what is in a row, such as a list, in place.
    """


class ProjectedEvent(FoldableEvent, Protocol):
    """An event as a view's functions get it; `data` is the payload, in its newest schema."""

    @property
    def position(self) -> str | None: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def causation_id(self) -> str | None: ...


R = TypeVar("R", bound=Row)
P = TypeVar("P", bound=Row)


class ViewShape(msgspec.Struct, frozen=True):
    """The version of a view, and the fingerprint of its rows: what its builds are found by."""

    version: int
    fingerprint: str


def row_of_aggregate(event: ProjectedEvent) -> str:
    """Return the key of an aggregate's only row; the default key of a view."""
    return ""


@dataclass(frozen=True)
class Totals(Generic[R, P]):
    """Totals over the rows of many aggregates, by group.

        Totals(
            "orders_by_day",
            row=OrdersOfDay,
            by=["day"],
            group=lambda order: OrdersOfDay(day=order.day),
            add=lambda total, order: replace(total, orders=total.orders + 1),
            remove=lambda total, order: replace(total, orders=total.orders - 1),
            merge=lambda one, other: replace(one, orders=one.orders + other.orders),
        )

    `group` returns the empty total of the group that a row is in, None for a row in none. Its
    fields `by` name the group, and no function changes them. When a row changes, its group loses
    it as it was (`remove`), and gains it as it is (`add`). Each partition of the domain keeps a
    part of its own; `merge` joins two parts when they are read.
    """

    name: str
    row: type[P]
    by: Sequence[str]
    group: Callable[[R], P | None]
    add: Callable[[P, R], P]
    remove: Callable[[P, R], P]
    merge: Callable[[P, P], P]
    indexes: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class View(Generic[R]):
    """A view: rows that follow from events, each event applied once and in order.

    `project` returns the row after an event: a new row, the same one where the event changes
    nothing, or None where there is none (any more). `key` returns the key of the row, within the
    event's aggregate, that an event is for; None: for none. By default an aggregate has one row.

    `indexes` lists the fields, together and in order, that queries filter and order by. Raise
    `version` whenever `project`, `key` or a function of `totals` changes its meaning: the view is
    then built anew beside the present one.
    """

    name: str
    row: type[R]
    project: Callable[[R | None, Any], R | None]
    key: Callable[[Any], str | None] = row_of_aggregate
    version: int = 1
    indexes: Sequence[Sequence[str]] = ()
    totals: Sequence[Totals[R, Any]] = ()

    @cached_property
    def shape(self) -> ViewShape:
        """The shape of the rows of the view and of its totals."""
        rows = {self.name: fingerprint(self.row)}
        rows |= {totals.name: fingerprint(totals.row) for totals in self.totals}
        return ViewShape(self.version, digest(rows))

    @property
    def tables(self) -> "list[Table]":
        """The view itself, and its totals: all that queries read."""
        return [self, *self.totals]


Table = View[Any] | Totals[Any, Any]
"""A view, or totals: both have rows."""


def check_views(views: Sequence[View[Any]]) -> str:
    """Return the first fault of a domain's views, or nothing."""
    names = [table.name for view in views for table in view.tables]
    for view in views:
        for table in view.tables:
            if fault := _check_table(table, names):
                return fault
        if view.version < 1:
            return f"view {view.name!r}: version={view.version} must be at least 1"
    return ""


def _check_table(table: Table, names: Sequence[str]) -> str:
    if not re.fullmatch(VIEW_NAME, table.name):
        return f"view {table.name!r}: the name {NAME_RULE}"
    if names.count(table.name) > 1:
        return f"`views` has two of the name {table.name!r}"
    if not (isinstance(table.row, type) and issubclass(table.row, Row)):
        return f"view {table.name!r}: row={table.row!r} is not a class derived from Row"
    if fault := find_row_fault(table.row):
        return f"view {table.name!r}: {fault}"
    fields = {field.name for field in msgspec.structs.fields(table.row)}
    by = [table.by] if isinstance(table, Totals) else []
    for index in (*table.indexes, *by):
        if isinstance(index, str) or not index:
            return f"view {table.name!r}: {index!r} must be a list of fields"
        if unknown := sorted({*index} - fields):
            return f"view {table.name!r}: {', '.join(unknown)}: no row has these fields"
    return ""


def find_table(views: Sequence[View[Any]], name: str) -> tuple[View[Any], Table] | None:
    """Return the table of a name, with the view that it belongs to."""
    for view in views:
        for table in view.tables:
            if table.name == name:
                return view, table
    return None
