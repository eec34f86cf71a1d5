"""SummedTotals: totals of many aggregates, merged of those of each, as queries merge partitions."""

from collections.abc import Callable, Mapping
from typing import Any

from eventfleet.model.view_functions import made_part
from eventfleet.model.view_rows import check_row
from eventfleet.model.views import Row, Totals
from eventfleet.states.lru_cache import LruCache

Spill = Callable[[str, Row], None]


class SummedTotals:
    """Totals over all aggregates so far, of up to `capacity` parts in memory.

    Where there are more, those unchanged for longest go to `spill`, and begin anew. Errors of
    `merge` pass through.
    """

    def __init__(self, totals: Totals[Any, Any], capacity: int, spill: Spill) -> None:
        self._totals, self._spill = totals, spill
        self._parts: LruCache[tuple[str, Row]] = LruCache(capacity)

    def add(self, parts: Mapping[str, Row]) -> None:
        """Add the parts of an aggregate."""
        for id, part in parts.items():
            known = self._parts.get(id)
            summed = self.merge(known[1], part) if known else part
            for each in self._parts.put(id, (id, summed)):
                self._spill(*each)

    def merge(self, one: Row, other: Row) -> Row:
        """Merge two parts, as they are read again."""
        return check_row(made_part(self._totals, "merge", self._totals.merge(one, other)))[1]

    def end(self) -> None:
        """Spill what is left."""
        for each in self._parts.take_all():
            self._spill(*each)
