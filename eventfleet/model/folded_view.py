"""FoldedView: the rows and totals of a view after some events, in memory."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
    not; UnstorableRow; ModifiedRow. `called` is the function that was called last.
    """

    def __init__(self, view: View[Any]) -> None:
        self._view = view
        self.rows: dict[str, Row] = {}
        self.called: Callable[..., Any] = view.key
        self._parts: dict[str, dict[str, Row]] = {each.name: {} for each in view.totals}

    def apply(self, event: ProjectedEvent, partition: int = 0) -> None:
        """Apply the next event of an aggregate, which is in a partition."""
        self.called = self._view.key
        key = check_key(self._view, self._view.key(event))
        if key is None:
            return
        id = row_id(event.aggregate_id, key)
        before = self.rows.get(id)
        given = [before] if before else []
        self.called = self._view.project
        made = _call("project", given, lambda: self._view.project(before, event))
        if made is before:
            return
        after = made_row(self._view, "project", made)
        if after is None:
            del self.rows[id]
        else:
            after = self.rows[id] = check_row(after)[1]
        for totals in self._view.totals:
            self._step(totals, "remove", before, partition)
            self._step(totals, "add", after, partition)

    def _step(self, totals: Totals[Any, Any], name: str, row: Row | None, partition: int) -> None:
        if row is None:
            return
        self.called = totals.group
        if (group := group_of(totals, row, partition)) is None:
            return
        self.called = step = getattr(totals, name)
        parts = self._parts[totals.name]
        part = parts.get(group.part_id, group.empty)
        made = _call(name, [part, row], lambda: step(part, row))
        made = check_row(made_part(totals, name, made))[1]
        if made == group.empty:
            parts.pop(group.part_id, None)
        else:
            parts[group.part_id] = made

    def parts(self, totals: Totals[Any, Any]) -> Mapping[str, Row]:
        """Return the parts of totals by their ids, each of one group in one partition."""
        return self._parts[totals.name]

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
