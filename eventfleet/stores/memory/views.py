"""The views' stores, in memory."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from eventfleet.model.value_copy import copy_value
from eventfleet.model.view_functions import SEPARATOR
from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts.views import (
    BuildProgress,
    RowQuery,
    StoredRow,
    ViewBuilds,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.row_filters import in_order, passes


class MemoryRows:
    """RowStore in memory."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self._rows: dict[str, StoredRow] = {}

    async def prepare(self, indexes: Sequence[Sequence[str]]) -> None:
        await self._yield_point()

    async def load(self, ids: Collection[str]) -> dict[str, StoredRow]:
        await self._yield_point()
        return {id: _copied(self._rows[id]) for id in ids if id in self._rows}

    async def save(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            await self._yield_point()
            stored = self._rows.get(row.id)
            if stored is None or stored.point < row.point:
                self._rows[row.id] = _copied(row)
        await self._yield_point()

    async def find(self, query: RowQuery, limit: int) -> list[StoredRow]:
        await self._yield_point()
        chosen = query.aggregates
        found = [
            row
            for row in self._rows.values()
            if row.fields is not None
            and passes(row.fields, query.filters)
            and (chosen is None or chosen.selects(row.id.rpartition(SEPARATOR)[0]))
        ]
        return [_copied(row) for row in in_order(found, query)[:limit]]

    async def purge(self, up_to: FeedPoint, before: datetime) -> int:
        await self._yield_point()
        gone = [
            row.id
            for row in self._rows.values()
            if row.fields is None
            and row.point.partition == up_to.partition
            and row.point <= up_to
            and row.written_at < before
        ]
        for id in gone:
            del self._rows[id]
        return len(gone)


def _copied(row: StoredRow) -> StoredRow:
    return row._replace(fields=copy_value(row.fields))


class MemoryViews:
    """ViewStore in memory."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self._builds: dict[str, ViewBuilds] = {}
        self._rows: dict[tuple[str, int, str], MemoryRows] = {}
        self._repaired: dict[str, int] = {}

    async def builds(self) -> dict[str, ViewBuilds]:
        await self._yield_point()
        return dict(self._builds)

    async def begin(
        self, view: str, tables: Sequence[str], shape: ViewShape, last_number: int
    ) -> bool:
        await self._yield_point()
        kept = self._builds.get(view, ViewBuilds()).begun(shape, last_number)
        if kept is None:
            return False
        self._builds[view] = kept
        numbers = {build.number for build in kept if build}
        for key in [key for key in self._rows if key[0] == view and key[1] not in numbers]:
            self._rows.pop(key)._rows.clear()
        await self._yield_point()
        return True

    async def note_progress(
        self,
        view: str,
        number: int,
        partition: int,
        known: BuildProgress,
        progress: BuildProgress,
    ) -> bool:
        return await self._change(
            view, lambda builds: builds.noted(number, partition, known, progress)
        )

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        return await self._change(view, lambda builds: builds.made_live(number, partitions))

    async def _change(self, view: str, change: Callable[[ViewBuilds], ViewBuilds | None]) -> bool:
        await self._yield_point()
        builds = change(self._builds.get(view, ViewBuilds()))
        if builds is None:
            return False
        self._builds[view] = builds
        await self._yield_point()
        return True

    async def note_repaired(self, view: str, number: int) -> None:
        await self._yield_point()
        self._repaired[view] = max(number, self._repaired.get(view, 0))

    async def repaired(self) -> dict[str, int]:
        await self._yield_point()
        return dict(self._repaired)

    def rows(self, view: str, table: str, number: int) -> MemoryRows:
        return self._rows.setdefault((view, number, table), MemoryRows(self._yield_point))
