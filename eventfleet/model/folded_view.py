"""FoldedView: the rows and totals of a view after some events, in memory."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

from eventfleet.model.view_functions import (
    SEPARATOR,
    check_key,
    group_of,
    made_part,
    made_row,
    row_id,
)
from eventfleet.model.view_rows import check_row, encode_row
from eventfleet.model.views import ProjectedEvent, Row, Totals, View

T = TypeVar("T")


class ModifiedRow(ValueError):
    """A function of a view modified a row that it was given."""


class FoldedView:
    """A view of some aggregates, kept by the functions of its declaration and nothing else.

    `rows` are by id. Errors of the functions pass through; TypeError: one returned what it must
    not; UnstorableRow; ModifiedRow.
    """

    def __init__(self, view: View[Any]) -> None:
        self._view = view
        self.rows: dict[str, Row] = {}
        self._parts: dict[str, dict[str, Row]] = {each.name: {} for each in view.totals}

    def apply(self, event: ProjectedEvent, partition: int = 0) -> None:
        """Apply the next event of an aggregate, which is in a partition."""
        key = check_key(self._view, self._view.key(event))
        if key is None:
            return
        id = row_id(event.aggregate_id, key)
        before = self.rows.pop(id, None)
        given = [before] if before else []
        made = _call("project", given, lambda: self._view.project(before, event))
        after = made_row(self._view, "project", made)
        if after is not None:
            after = self.rows[id] = check_row(after)[1]
        for totals in self._view.totals:
            self._step(totals, "remove", before, partition)
            self._step(totals, "add", after, partition)

    def _step(self, totals: Totals[Any, Any], name: str, row: Row | None, partition: int) -> None:
        if row is None or (group := group_of(totals, row, partition)) is None:
            return
        parts, step = self._parts[totals.name], getattr(totals, name)
        part = parts.pop(group.part_id, group.empty)
        made = _call(name, [part, row], lambda: step(part, row))
        made = check_row(made_part(totals, name, made))[1]
        if made != group.empty:
            parts[group.part_id] = made

    def totals(self, totals: Totals[Any, Any]) -> list[Row]:
        """Return the totals of each group, of all partitions, in the order of the groups."""
        groups = defaultdict[str, list[Row]](list)
        for part_id, part in sorted(self._parts[totals.name].items()):
            groups[part_id.rpartition(SEPARATOR)[0]].append(part)
        return [reduce(totals.merge, parts) for parts in groups.values()]


def _call(name: str, rows: Sequence[Row], function: Callable[[], T]) -> T:
    """Call a function that is given these rows. ModifiedRow: it changed what is in one."""
    before = [encode_row(row) for row in rows]
    made = function()
    for row, fields in zip(rows, before, strict=True):
        if encode_row(row) != fields:
            raise ModifiedRow(f"{name} modifies the row that it is given: {fields} became {row}")
    return made
