"""ViewProjector: applies the events of one partition to one build of a view.

A chunk's totals are stored before the rows that they follow from: what a group gains and loses
comes from a row as it was and as it is, so that a row is the last to know of an event. Whatever was
cut off is done again, and each row and each part of a total passes over the events that it has.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.model.view_rows import decode_row, encode_group, encode_row
from eventfleet.model.views import ProjectedEvent, Row, Table, Totals, View, row_of_aggregate
from eventfleet.roles.role import PoisonEvent
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.views import Fields, RowStore, StoredRow, ViewBuild, ViewStore
from eventfleet.stores.cursors import FeedPoint

ROLE = "project"
SEPARATOR = "\0"
NOT_STORED = FeedPoint(-1, 0, -1, 0)


class CachedRow:
    """A row, or None where there is none, and the last event that changed it.

    That is known by its point, or, once it was applied here, by itself.
    """

    __slots__ = ("_event", "_point", "value", "version")

    def __init__(
        self, value: Row | None, point: FeedPoint | None, event: ProjectedEvent | None = None
    ) -> None:
        self.value, self._point, self._event = value, point, event
        self.version = event.version if event else point.version if point else 0

    @property
    def point(self) -> FeedPoint:
        """The point of the event: found out when it is asked for, which is not for each event."""
        if self._event is not None:
            self._point, self._event = FeedPoint.of(self._event), None
        return self._point or NOT_STORED


class RowChange(NamedTuple):
    """A row before and after an event."""

    event: ProjectedEvent
    before: Row | None
    after: Row | None


class CachedTable:
    """The rows of one table, as they are once the events in hand are applied."""

    def __init__(self, table: Table, store: RowStore, capacity: int) -> None:
        self._table, self._store = table, store
        self._cache: LruCache[CachedRow] = LruCache(capacity)
        self._changed: dict[str, CachedRow] = {}
        self._loaded: dict[str, CachedRow] = {}

    async def load(self, ids: Iterable[str], fresh: Iterable[str] = ()) -> None:
        """Have rows at hand; those that are `fresh` are known not to be stored."""
        ids = dict.fromkeys(ids)
        self._loaded = self._cache.get_all(ids)
        for id in fresh:
            self._loaded.setdefault(id, CachedRow(None, NOT_STORED))
        if missing := [id for id in ids if id not in self._loaded]:
            stored = await self._store.load(missing)
            self._loaded |= {id: self._cached(stored.get(id)) for id in missing}

    def get(self, id: str) -> CachedRow:
        return self._loaded[id]

    def set(self, id: str, row: CachedRow) -> None:
        self._loaded[id] = self._changed[id] = row

    async def save(self, now: datetime) -> None:
        """Store what was changed."""
        if self._changed:
            await self._store.save(
                [
                    StoredRow(id, _encoded(row.value), row.point, now)
                    for id, row in self._changed.items()
                ]
            )

    def keep(self) -> None:
        """Cache what is at hand, now that it is stored."""
        self._cache.put_all(self._loaded)
        self._cache.trim()
        self._loaded, self._changed = {}, {}

    def forget(self) -> None:
        """Drop everything: it is unknown what was stored."""
        self._cache.clear()
        self._loaded, self._changed = {}, {}

    def _cached(self, stored: StoredRow | None) -> CachedRow:
        if stored is None:
            return CachedRow(None, NOT_STORED)
        fields = stored.fields
        return CachedRow(
            None if fields is None else decode_row(self._table.row, fields), stored.point
        )


def _encoded(row: Row | None) -> Fields | None:
    return None if row is None else encode_row(row)


class ViewProjector:
    """Applies events to one build of a view, in one partition.

    All events up to `point` are applied, and perhaps some after it. `cached` rows are kept in
    memory, of the view and of each of its totals.
    """

    def __init__(
        self,
        domain: Domain[Any],
        view: View[Any],
        build: ViewBuild,
        partition: int,
        views: ViewStore,
        clock: Clock,
        *,
        cached: int,
    ) -> None:
        progress = build.progress(partition)
        self._domain, self._partition, self._clock = domain, partition, clock
        self.view, self.number = view, build.number
        self.point = progress.point or FeedPoint.start(partition)
        self.ready = progress.ready
        self._stores = {table.name: views.rows(table.name, build.number) for table in view.tables}
        self._rows = self._cached_table(view, cached)
        self._totals = [(each, self._cached_table(each, cached)) for each in view.totals]
        self._prepared = False

    def _cached_table(self, table: Table, capacity: int) -> CachedTable:
        return CachedTable(table, self._stores[table.name], capacity)

    async def prepare(self) -> None:
        """Create the indexes of the tables; once."""
        if not self._prepared:
            for table in self.view.tables:
                await self._stores[table.name].prepare(table.indexes)
            self._prepared = True

    async def purge(self, before: datetime) -> None:
        """Remove the tombstones that were written before a moment."""
        for store in self._stores.values():
            await store.purge(self._partition, before)

    async def apply(self, events: Sequence[ProjectedEvent]) -> None:
        """Apply events, given in the partition's order; those that are applied change nothing.

        PoisonEvent: a function of the view raised, or returned what it must not.
        """
        if not events:
            return
        tables = [self._rows, *(table for _, table in self._totals)]
        try:
            changes = await self._change_rows(events)
            now = self._clock.now()
            for totals, table in self._totals:
                await self._change_totals(totals, table, changes)
                await table.save(now)
            await self._rows.save(now)
        except BaseException:
            for table in tables:
                table.forget()
            raise
        for table in tables:
            table.keep()
        self.point = max(self.point, FeedPoint.of(events[-1]))

    # The rows

    async def _change_rows(self, events: Sequence[ProjectedEvent]) -> list[RowChange]:
        """Project all events. One with a version at or below its row's is applied already."""
        ids = self._row_ids(events)
        fresh = [id for event, id in zip(events, ids, strict=True) if id and event.version == 1]
        await self._rows.load(filter(None, ids), fresh)
        changes: list[RowChange] = []
        # Locals, and one `try` for all: this loop runs for each event.
        project, row_type = self.view.project, self.view.row
        get, set = self._rows.get, self._rows.set
        event = events[0]
        try:
            for event, id in zip(events, ids, strict=True):
                if id is None or event.version <= (row := get(id)).version:
                    continue
                before = row.value
                after = project(before, event)
                if after is before:
                    continue
                if after is not None and type(after) is not row_type:
                    raise _wrong_row(self.view, "project", after)
                set(id, CachedRow(after, None, event))
                if self._totals:
                    changes.append(RowChange(event, before, after))
        except Exception as error:
            raise self._poison(event, error) from error
        return changes

    def _row_ids(self, events: Sequence[ProjectedEvent]) -> list[str | None]:
        """Return the id of each event's row; None where the view passes it over."""
        key = self.view.key
        if key is row_of_aggregate:
            return [event.aggregate_id + SEPARATOR for event in events]
        ids: list[str | None] = []
        event = events[0]
        try:
            for event in events:
                found = check_key(self.view, key(event))
                ids.append(None if found is None else row_id(event.aggregate_id, found))
        except Exception as error:
            raise self._poison(event, error) from error
        return ids

    # The totals

    async def _change_totals(
        self, totals: Totals[Any, Any], table: CachedTable, changes: Sequence[RowChange]
    ) -> None:
        """Take each changed row from its group as it was, and add it as it is."""
        steps = [
            (change.event, empty, step, row)
            for change in changes
            for step, row in ((totals.remove, change.before), (totals.add, change.after))
            if row is not None and (empty := self._group(totals, row, change.event)) is not None
        ]
        ids = [part_id(empty, self._partition) for _, empty, _, _ in steps]
        await table.load(ids)
        stored = {id: table.get(id).point for id in ids}
        for id, (event, empty, step, row) in zip(ids, steps, strict=True):
            if FeedPoint.of(event) > stored[id]:
                part = table.get(id).value or empty
                table.set(id, CachedRow(self._stepped(totals, step, part, row, event), None, event))

    def _group(self, totals: Totals[Any, Any], row: Row, event: ProjectedEvent) -> Row | None:
        try:
            empty: Row | None = totals.group(row)
            if empty is not None and type(empty) is not totals.row:
                raise _wrong_row(totals, "group", empty)
        except Exception as error:
            raise self._poison(event, error) from error
        return empty

    def _stepped(
        self,
        totals: Totals[Any, Any],
        step: Callable[[Row, Row], Row],
        part: Row,
        row: Row,
        event: ProjectedEvent,
    ) -> Row:
        try:
            after = step(part, row)
            if type(after) is not totals.row:
                raise _wrong_row(totals, "add or remove", after)
        except Exception as error:
            raise self._poison(event, error) from error
        return after

    # What it does when that fails

    def _poison(self, event: ProjectedEvent, error: Exception) -> PoisonEvent:
        return PoisonEvent(ROLE, self._domain.name, event, event.position, error)


def check_key(view: View[Any], key: Any) -> str | None:
    """Return a row's key. TypeError: it is none."""
    if key is not None and (not isinstance(key, str) or SEPARATOR in key):
        raise TypeError(f"view {view.name}: the key is {key!r}, not a str without NUL, or None")
    return key


def _wrong_row(table: Table, function: str, made: Any) -> TypeError:
    wanted = table.row.__name__
    return TypeError(f"{table.name}: {function} returned {made!r:.200}, not a {wanted}")


def row_id(aggregate_id: str, key: str) -> str:
    """Return the id of a row; no two aggregates and keys share one."""
    return f"{aggregate_id}{SEPARATOR}{key}"


def part_id(empty: Row, partition: int) -> str:
    """Return the id of a partition's part of a group, which its empty total stands for."""
    return f"{encode_group(empty)}{SEPARATOR}{partition}"
