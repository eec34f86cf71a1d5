"""ViewReader: answers queries of one domain's views and totals."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.view_functions import SEPARATOR, row_id
from eventfleet.model.view_rows import (
    UnstorableRow,
    decode_group,
    decode_row,
    encode_group,
    encode_row,
)
from eventfleet.model.views import Row, Table, Totals, View, find_table
from eventfleet.stores.contracts import ViewStore
from eventfleet.stores.contracts.views import (
    AggregateSelection,
    Comparison,
    RowFilter,
    RowQuery,
    RowStore,
    StoredRow,
    ViewBuild,
    ViewBuilds,
)
from eventfleet.stores.cursors import decode_cursor, encode_cursor
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.row_filters import in_order, passes, place
from eventfleet.topics.codec import to_invalid_record
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.values import declares_time, read_declared

T = TypeVar("T")

DEFAULT_PAGE_ROWS = 100
NULL = "null"
"""A filter's text of an absent value."""
MAX_PARTS = 10_000
"""Parts of totals that one query merges; it takes filters to read of more."""


class UnknownView(EventfleetError):
    """The domain declares no view or totals of this name."""

    def __init__(self, domain: Domain[Any], name: str) -> None:
        known = [table.name for view in domain.views for table in view.tables]
        super().__init__(
            f"{domain.name} has no view {name!r}; known: {', '.join(sorted(known)) or 'none'}"
        )


class ViewNotBuilt(ServerUnavailable):
    """No build of the view answers yet for the version that this process declares."""


class ViewRow(NamedTuple):
    """A row of a view, with its aggregate and its key within it; totals have neither."""

    row: Row
    aggregate_id: str | None = None
    key: str | None = None


class RowPage(NamedTuple):
    """Rows, and the cursor of the next page; None on the last one."""

    rows: list[ViewRow]
    next: str | None


class ViewReader:
    """Reads the live builds of a domain's views; of a shape that was replaced, the former build.

    Filters are conditions by field, `status`, or by field and comparison, `cents.gte`: lt, lte, gt,
    gte and in, whose value is a list. Each method may raise UnknownView, and ViewNotBuilt.
    """

    def __init__(self, domain: Domain[Any], views: ViewStore | None) -> None:
        self._domain, self._views = domain, views

    async def get(self, name: str, aggregate_id: str, key: str = "") -> Row | None:
        """Return a row of a view; None without one. InvalidRecord: totals have no such rows."""
        view, table = self._table(name)
        if isinstance(table, Totals):
            raise InvalidRecord("view", f"{name} has totals of many aggregates: query them")
        id = row_id(aggregate_id, key)
        found = (await self._read(view, table, lambda rows: rows.load([id]))).get(id)
        return None if found is None or found.fields is None else _decode(table, found)

    async def find(
        self,
        name: str,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str | None = None,
        limit: int = DEFAULT_PAGE_ROWS,
        cursor: str = "",
        aggregates: AggregateSelection | None = None,
    ) -> RowPage:
        """Return the rows that pass all filters, by a field, such as `cents`, or `-cents` for the
        highest first; page by page. With `aggregates`, only their rows; totals have none of one
        aggregate. InvalidRecord names a field; InvalidCursor.
        """
        view, table = self._table(name)
        filters = read_filters(table, where or {})
        order, descending = _read_order(table, order_by)
        listing = f"{self._domain.name}.{name}.{order_by}"
        after = _read_after(table, listing, order, cursor) if cursor else None
        query = RowQuery(filters, order, descending, after, aggregates)
        if isinstance(table, Totals):
            if aggregates is not None:
                raise InvalidRecord("view", f"{name} has totals of many aggregates")
            found = await self._read(view, table, lambda rows: _merged(table, rows, query))
        else:
            found = await self._read(view, table, lambda rows: rows.find(query, limit + 1))
        page = found[:limit]
        more = len(found) > limit
        return RowPage(
            [_view_row(table, each) for each in page],
            encode_cursor(listing, place(page[-1], order)) if more else None,
        )

    def _table(self, name: str) -> tuple[View[Any], Table]:
        found = find_table(self._domain.views, name)
        if found is None:
            raise UnknownView(self._domain, name)
        return found

    async def _read(
        self, view: View[Any], table: Table, read: Callable[[RowStore], Awaitable[T]]
    ) -> T:
        """Read a table of a view's build. Where nothing is found, that build may have been removed
        just then, since another one is live: read that."""
        assert self._views is not None
        build = await self._build(view)
        while True:
            found = await read(self._views.rows(view.name, table.name, build.number))
            if found or (latest := await self._build(view)).number == build.number:
                return found
            build = latest

    async def _build(self, view: View[Any]) -> ViewBuild:
        assert self._views is not None
        builds = (await self._views.builds()).get(view.name, ViewBuilds())
        build = builds.read_by(view.shape)
        if build is None:
            raise ViewNotBuilt(self._not_built(view, builds))
        return build

    def _not_built(self, view: View[Any], builds: ViewBuilds) -> str:
        where = f"view {view.name} of {self._domain.name}, version {view.version}"
        if builds.next and builds.next.shape == view.shape:
            if held := builds.next.held:
                return (
                    f"{where}: its build is held in partitions {sorted(held)}, as it would show "
                    "less than the live one; /ready of the workers of project says why: eventfleet "
                    f"deadletters list {self._domain.name} --role project"
                )
            ready = sum(each.ready for each in builds.next.partitions.values())
            return (
                f"{where}: it is not built yet, but ready in {ready} partitions; workers of the "
                "role project build it"
            )
        if builds.live and builds.live.shape.version > view.version:
            return (
                f"{where}: it is built in version {builds.live.shape.version}, deployed since; to "
                f"go back for good: eventfleet rebuild {self._domain.name} {view.name}"
            )
        return f"{where}: no worker of the role project has built it yet"


# Filters and order


def read_filters(table: Table, where: Mapping[str, Any]) -> list[RowFilter]:
    """Read filters, and check their values against the fields. InvalidRecord names a filter.

    A value may be a text of its field's type, as in a URL; that of `in` a list, or a text of them.
    """
    return [_read_filter(table, name, value) for name, value in where.items()]


def _read_filter(table: Table, name: str, value: Any) -> RowFilter:
    field, _, comparison = name.partition(".")
    kind = _field_type(table, field, name)
    try:
        compared = Comparison(comparison or "eq")
    except ValueError:
        known = ", ".join(each.value for each in Comparison)
        raise InvalidRecord(name, f"{comparison!r} is not a comparison: {known}") from None
    if compared is Comparison.IN:
        values = value.split(",") if isinstance(value, str) else list(value)
        return RowFilter(field, compared, [_to_plain(kind, each, name) for each in values])
    return RowFilter(field, compared, _to_plain(kind, value, name))


def _field_type(table: Table, field: str, name: str) -> Any:
    for each in msgspec.structs.fields(table.row):
        if each.name == field:
            return each.type
    known = ", ".join(each.name for each in msgspec.structs.fields(table.row))
    raise InvalidRecord(name, f"{table.name} has no field {field!r}; known: {known}")


def _to_plain(kind: Any, value: Any, name: str) -> Any:
    """Convert a value to the plain one that a row has for it."""
    try:
        is_text = isinstance(value, str) and value != NULL
        read = read_declared(value, kind) if is_text else value
        typed = msgspec.convert(read, kind, strict=is_text and declares_time(kind))
    except msgspec.ValidationError as error:
        raise InvalidRecord(name, to_invalid_record(error).reason) from None
    except ValueError as error:
        raise InvalidRecord(name, str(error)) from None
    try:
        return encode_row(_Value(value=typed))["value"]
    except UnstorableRow as error:
        raise InvalidRecord(name, str(error).removeprefix("value ")) from None


class _Value(Row):
    value: Any


def _read_order(table: Table, order_by: str | None) -> tuple[str | None, bool]:
    if order_by is None:
        return None, False
    field = order_by.removeprefix("-")
    _field_type(table, field, "order")
    return field, order_by.startswith("-")


def _read_after(table: Table, listing: str, order: str | None, cursor: str) -> tuple[Any, str]:
    value, id = decode_cursor(listing, cursor, tuple[Any, str])
    if order is not None and value is not None:
        value = _to_plain(_field_type(table, order, "order"), value, "cursor")
    return value, id


# Rows


def _decode(table: Table, stored: StoredRow) -> Row:
    row: Row = decode_row(table.row, stored.fields or {})
    return row


def _view_row(table: Table, stored: StoredRow) -> ViewRow:
    row = _decode(table, stored)
    if isinstance(table, Totals):
        return ViewRow(row)
    aggregate_id, _, key = stored.id.rpartition(SEPARATOR)
    return ViewRow(row, aggregate_id, key)


async def _merged(totals: Totals[Any, Any], store: RowStore, query: RowQuery) -> list[StoredRow]:
    """Merge the partitions' parts of each group, then filter and order the totals.

    InvalidRecord: the filters on the fields `by` leave more than MAX_PARTS.
    """
    of_groups = [each for each in query.filters if each.field in totals.by]
    parts = await store.find(RowQuery(of_groups), MAX_PARTS + 1)
    if len(parts) > MAX_PARTS:
        raise InvalidRecord(
            "where", f"more than {MAX_PARTS} parts of totals: filter by {', '.join(totals.by)}"
        )
    groups: dict[str, StoredRow] = {}
    for part in parts:
        group = part.id.rpartition(SEPARATOR)[0]
        known = groups.get(group)
        groups[group] = _joined(totals, known, part)._replace(id=group) if known else part
    found = [
        total._replace(id=group)
        for group, total in groups.items()
        if passes(total.fields or {}, query.filters) and not _is_empty(totals, group, total)
    ]
    return in_order(found, query)


def _joined(totals: Totals[Any, Any], one: StoredRow, other: StoredRow) -> StoredRow:
    merged = totals.merge(_decode(totals, one), _decode(totals, other))
    return one._replace(fields=encode_row(merged))


def _is_empty(totals: Totals[Any, Any], group: str, total: StoredRow) -> bool:
    empty: Row = decode_group(totals.row, group)
    return encode_group(_decode(totals, total)) == encode_group(empty)
