"""RefoldedAggregate: the rows of all views of one aggregate, folded anew from its first event.

A redrive does not apply the parked events to the rows as they are stored: other builds, and owners
before, may have applied some of them, and what is deleted may be gone. Whole aggregates can be
folded again at any time, and a row that is stored as it is here, or later, stays.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventfleet.model.view_functions import check_key, group_of, made_part, made_row, row_id
from eventfleet.model.view_rows import check_row
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.stores.contracts.views import StoredRow
from eventfleet.stores.cursors import FeedPoint


class FoldedRow(NamedTuple):
    """A row after the last event that changed it; None where it is deleted."""

    value: Row | None
    event: ProjectedEvent


class RefoldedAggregate:
    """The rows of an aggregate in each of some views, after its events in order."""

    def __init__(self, views: Sequence[View[Any]], partition: int) -> None:
        self._views, self._partition = views, partition
        self._rows: dict[str, dict[str, FoldedRow]] = {view.name: {} for view in views}
        self._parts: dict[tuple[str, str], Row] = {}

    def apply(self, event: ProjectedEvent) -> None:
        """Apply an event to all views, or to none where a function of one raises.

        The functions of totals are called with parts that have the rows of this aggregate alone.
        """
        changes: list[Callable[[], None]] = []
        for view in self._views:
            key = check_key(view, view.key(event))
            if key is not None:
                changes += self._change(view, row_id(event.aggregate_id, key), event)
        for change in changes:
            change()

    def _change(self, view: View[Any], id: str, event: ProjectedEvent) -> list[Callable[[], None]]:
        rows = self._rows[view.name]
        before = rows[id].value if id in rows else None
        after = view.project(before, event)
        if after is before:
            return []
        after = made_row(view, "project", after)
        if after is not None:
            after = check_row(after)[1]
        parts: dict[tuple[str, str], Row] = {}
        for totals in view.totals:
            self._step(totals, "remove", before, parts)
            self._step(totals, "add", after, parts)
        row = FoldedRow(after, event)
        return [lambda: rows.update({id: row}), lambda: self._parts.update(parts)]

    def _step(
        self,
        totals: Totals[Any, Any],
        name: str,
        row: Row | None,
        parts: dict[tuple[str, str], Row],
    ) -> None:
        if row is None or (group := group_of(totals, row, self._partition)) is None:
            return
        place = totals.name, group.part_id
        part = parts.get(place) or self._parts.get(place, group.empty)
        made = made_part(totals, name, getattr(totals, name)(part, row))
        parts[place] = check_row(made)[1]

    def stored(self, view: View[Any], now: datetime) -> list[StoredRow]:
        """Return the rows of a view as they are to be stored, tombstones too."""
        return [
            StoredRow(
                id,
                None if row.value is None else check_row(row.value)[0],
                FeedPoint.of(row.event),
                now,
            )
            for id, row in self._rows[view.name].items()
        ]
