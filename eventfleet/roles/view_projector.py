"""ViewProjector: applies the events of one partition to one build of a view.

A chunk's totals are stored before the rows that they follow from: what a group gains and loses
comes from a row as it was and as it is, so that a row is the last to know of an event. Whatever was
cut off is done again, and each row and each part of a total passes over the events that it has.

An earlier owner may still write, and be ahead. Where a stored row turns out to be, cached parts may
lack what that owner has added to the stored ones for it: they are read again.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, cast

from eventfleet.model.domain import Domain
from eventfleet.model.view_functions import (
    SEPARATOR,
    Group,
    check_key,
    group_of,
    made_part,
    made_row,
    row_id,
)
from eventfleet.model.view_rows import UnstorableRow, check_row, decode_row
from eventfleet.model.views import ProjectedEvent, Row, Table, Totals, View, row_of_aggregate
from eventfleet.roles.role import PoisonEvent
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.views import RowStore, StoredRow, ViewBuild, ViewStore
from eventfleet.stores.cursors import FeedPoint

ROLE = "project"
NOT_STORED = FeedPoint(-1, 0, -1, 0)

T = TypeVar("T")


class CachedRow:
    """A row, or None where there is none, and the last event that changed it.

    That is known by its version and its point, or, until it is stored, by itself: points are made
    for the events that need one, which is not each.
    """

    __slots__ = ("_event", "_point", "value", "version")

    def __init__(self, value: Row | None, point: FeedPoint) -> None:
        self.value, self.version = value, point.version
        self._point, self._event = point, cast(ProjectedEvent, None)

    def change(self, value: Row | None, event: ProjectedEvent) -> None:
        """Make the row what an event made of it."""
        self.value, self.version, self._event = value, event.version, event

    @property
    def event(self) -> ProjectedEvent:
        """The event, of a row that is not stored yet."""
        return self._event

    @property
    def point(self) -> FeedPoint:
        """The point of the event."""
        if self._event is not None:
            self._point, self._event = FeedPoint.of(self._event), cast(ProjectedEvent, None)
        return self._point


class UnstorableChange(Exception):
    """A row that can't be stored, as an event made it."""

    def __init__(self, event: ProjectedEvent, reason: UnstorableRow) -> None:
        super().__init__(str(reason))
        self.event, self.reason = event, reason


class RowChange(NamedTuple):
    """A row before and after an event."""

    event: ProjectedEvent
    before: Row | None
    after: Row | None


class CachedTable:
    """The rows of one table, as they are once the events in hand are applied."""

    def __init__(self, table: Table, store: RowStore, capacity: int, written: Counter[str]) -> None:
        self._table, self._store, self._written = table, store, written
        self._cache: LruCache[CachedRow] = LruCache(capacity)
        self._changed: dict[str, CachedRow] = {}
        self._loaded: dict[str, CachedRow] = {}

    async def load(self, ids: Iterable[str], fresh: Iterable[str] = ()) -> Mapping[str, CachedRow]:
        """Have rows at hand, and return them; those that are `fresh` are known not to be stored."""
        ids = dict.fromkeys(ids)
        self._loaded = self._cache.get_all(ids)
        for id in fresh:
            self._loaded.setdefault(id, CachedRow(None, NOT_STORED))
        if missing := [id for id in ids if id not in self._loaded]:
            stored = await self._store.load(missing)
            self._loaded |= {id: self._cached(stored.get(id)) for id in missing}
        return self._loaded

    def change(self, id: str, value: Row | None, event: ProjectedEvent) -> None:
        """Make a row that is at hand what an event made of it."""
        row = self._changed[id] = self._loaded[id]
        row.change(value, event)

    @property
    def changed(self) -> bool:
        """True when a row was changed since the last one was cached."""
        return bool(self._changed)

    def encode(self, now: datetime) -> list[StoredRow]:
        """Return what was changed, as it is stored. UnstorableChange: it can't be."""
        return [self._encode(id, row, now) for id, row in self._changed.items()]

    def _encode(self, id: str, row: CachedRow, now: datetime) -> StoredRow:
        if row.value is None:
            return StoredRow(id, None, row.point, now)
        try:
            fields, value = check_row(row.value)
        except UnstorableRow as error:
            raise UnstorableChange(row.event, error) from error
        row.value = value
        return StoredRow(id, fields, row.point, now)

    async def save(self, rows: Sequence[StoredRow]) -> None:
        if rows:
            await self._store.save(rows)
            self._written[self._table.name] += len(rows)

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


class ViewProjector:
    """Applies events to one build of a view, in one partition.

    All events up to `point` are applied, and perhaps some after it. `cached` rows are kept in
    memory, of the view and of each of its totals. `written` counts the rows by table.
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
        written: Counter[str],
    ) -> None:
        progress = build.progress(partition)
        self._domain, self._partition, self._clock = domain, partition, clock
        self.view, self.number = view, build.number
        self.point = progress.point or FeedPoint.start(partition)
        self.ready = progress.ready
        # True once `point` is past all that the group had processed. A build that is not ready
        # comes there by itself. Of a ready one the point was noted before: until an event changes
        # a stored row, the first event of an aggregate may be a repeat, and its row be stored.
        self._abreast = not progress.ready
        self._stores = {
            table.name: views.rows(view.name, table.name, build.number) for table in view.tables
        }
        self._written = written
        self._rows = self._cached_table(view, cached)
        self._totals = [(each, self._cached_table(each, cached)) for each in view.totals]
        self.prepared = False

    def _cached_table(self, table: Table, capacity: int) -> CachedTable:
        return CachedTable(table, self._stores[table.name], capacity, self._written)

    async def prepare(self) -> None:
        """Create the indexes of the tables; once."""
        if not self.prepared:
            for table in self.view.tables:
                await self._stores[table.name].prepare(table.indexes)
            self.prepared = True

    async def purge(self, up_to: FeedPoint, before: datetime) -> None:
        """Remove the tombstones up to a point that were written before a moment."""
        for store in self._stores.values():
            await store.purge(up_to, before)

    async def apply(self, events: Sequence[ProjectedEvent]) -> None:
        """Apply events, given in the partition's order but for repeats, which change nothing.

        PoisonEvent: a function of the view raised, or returned what it must not.
        """
        # Tombstones up to the point may be gone, so rows alone do not pass over what comes again.
        events = first_times(self.point, events)
        if not events:
            return
        tables = [self._rows, *(table for _, table in self._totals)]
        try:
            changes = await self._change_rows(events)
            now = self._clock.now()
            encoded = [(self._rows, self._rows.encode(now))]
            for totals, table in self._totals:
                await self._change_totals(totals, table, changes)
                encoded.append((table, table.encode(now)))
            for table, rows in reversed(encoded):
                await table.save(rows)
        except UnstorableChange as error:
            self._forget(tables)
            raise self._poison(error.event, error.reason) from error.reason
        except BaseException:
            self._forget(tables)
            raise
        self._abreast = self._abreast or self._rows.changed
        for table in tables:
            table.keep()
        self.point = FeedPoint.of(events[-1])

    def _forget(self, tables: Sequence[CachedTable]) -> None:
        for table in tables:
            table.forget()

    # The rows

    async def _change_rows(self, events: Sequence[ProjectedEvent]) -> list[RowChange]:
        """Project all events; a row passes over those that it has, by their versions."""
        keyed = self._keyed(events)
        fresh = [id for event, id in keyed if event.version == 1] if self._abreast else []
        rows = await self._rows.load([id for _, id in keyed], fresh)
        changes: list[RowChange] = []
        ahead = False
        # Locals, and one `try` for all: this loop runs for each event.
        view, project = self.view, self.view.project
        change, totals = self._rows.change, bool(self._totals)
        event = events[0]
        try:
            for event, id in keyed:
                row = rows[id]
                if event.version <= row.version:
                    ahead = True
                    continue
                before = row.value
                made = project(before, event)
                if made is not before:
                    made = made_row(view, "project", made)
                    change(id, made, event)
                    if totals:
                        changes.append(RowChange(event, before, made))
        except Exception as error:
            raise self._poison(event, error) from error
        if ahead:
            self._forget([table for _, table in self._totals])
        return changes

    def _keyed(self, events: Sequence[ProjectedEvent]) -> list[tuple[ProjectedEvent, str]]:
        """Return the events that the view does not pass over, with the ids of their rows."""
        key = self.view.key
        if key is row_of_aggregate:
            return [(event, event.aggregate_id + SEPARATOR) for event in events]
        keyed, event = [], events[0]
        try:
            for event in events:
                found = check_key(self.view, key(event))
                if found is not None:
                    keyed.append((event, row_id(event.aggregate_id, found)))
        except Exception as error:
            raise self._poison(event, error) from error
        return keyed

    # The totals

    async def _change_totals(
        self, totals: Totals[Any, Any], table: CachedTable, changes: Sequence[RowChange]
    ) -> None:
        """Take each changed row from its group as it was, and add it as it is."""
        steps = [
            (change.event, group, step, row)
            for change in changes
            for step, row in ((totals.remove, change.before), (totals.add, change.after))
            if row is not None and (group := self._group(totals, row, change.event)) is not None
        ]
        ids = [group.part_id for _, group, _, _ in steps]
        parts = await table.load(ids)
        stored = {id: parts[id].point for id in ids}
        for event, (id, empty), step, row in steps:
            if FeedPoint.of(event) > stored[id]:
                before = parts[id].value
                part = self._stepped(totals, step, empty if before is None else before, row, event)
                table.change(id, None if part == empty else part, event)

    def _group(self, totals: Totals[Any, Any], row: Row, event: ProjectedEvent) -> Group | None:
        return self._call(event, lambda: group_of(totals, row, self._partition))

    def _stepped(
        self,
        totals: Totals[Any, Any],
        step: Callable[[Row, Row], Row],
        part: Row,
        row: Row,
        event: ProjectedEvent,
    ) -> Row:
        name = "add" if step is totals.add else "remove"
        return self._call(event, lambda: made_part(totals, name, step(part, row)))

    # What it does when that fails

    def _call(self, event: ProjectedEvent, function: Callable[[], T]) -> T:
        """Call a function of the view. PoisonEvent: it raised."""
        try:
            return function()
        except Exception as error:
            raise self._poison(event, error) from error

    def _poison(self, event: ProjectedEvent, error: Exception) -> PoisonEvent:
        return PoisonEvent(ROLE, self._domain.name, event, event.position, error)


def first_times(point: FeedPoint, events: Sequence[ProjectedEvent]) -> Sequence[ProjectedEvent]:
    """Return the events behind a point, each once and in order: those left out are repeats."""
    if not events or _rises(point, events):
        return events
    kept: list[ProjectedEvent] = []
    for event in events:
        at = FeedPoint.of(event)
        if at > point:
            kept.append(event)
            point = at
    return kept


def _rises(point: FeedPoint, events: Sequence[ProjectedEvent]) -> bool:
    """Return True for events in order and behind a point, as almost all chunks are.

    It compares texts, which cost a tenth of points: among those of one length, where the first and
    the last one have the same epoch, they sort as the positions do.
    """
    positions = [event.position or "" for event in events]
    first, last = positions[0].rpartition("-"), positions[-1].rpartition("-")
    return (
        first[0] == last[0]
        and len({*map(len, positions)}) == 1
        and all(map(operator.lt, positions, positions[1:]))
        and FeedPoint.of(events[0]) > point
    )
