"""ViewProjector: applies the events of one partition to one build of a view.

It first works out what a chunk makes of the build, and leaves out the aggregates on whose events
functions of the view raise, each from there on. The caller has these parked before it lets the rest
be stored: an owner after a crash must not apply what parts of totals were stored without.

A chunk's totals are stored before the rows that they follow from: what a group gains and loses
comes from a row as it was and as it is, so that a row is the last to know of an event. Whatever was
cut off is done again, and each row and each part of a total passes over the events that it has.

An earlier owner may still write, and be ahead. Where a stored row turns out to be, cached parts may
lack what that owner has added to the stored ones for it: they are read again.
"""

import operator
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from eventfleet.model.domain import Domain
from eventfleet.model.value_copy import copy_value
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
from eventfleet.roles.poison_events import PoisonEvents, RaisedOn
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.views import RowStore, StoredRow, ViewBuild, ViewStore
from eventfleet.stores.cursors import FeedPoint

ROLE = "project"
NOT_STORED = FeedPoint(-1, 0, -1, 0)


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


class RowChange(NamedTuple):
    """A row before and after an event."""

    event: ProjectedEvent
    before: Row | None
    after: Row | None


TotalsStep = tuple[ProjectedEvent, Group, str, Row]
"""A row that a group loses ("remove") or gains ("add") by an event."""


class CachedTable:
    """The rows of one table, as they are once the events in hand are applied."""

    def __init__(self, table: Table, store: RowStore, capacity: int, written: Counter[str]) -> None:
        self._table, self._store, self._written = table, store, written
        self._cache: LruCache[CachedRow] = LruCache(capacity)
        self.changed: dict[str, CachedRow] = {}
        """The rows at hand that events have changed."""
        self._loaded: dict[str, CachedRow] = {}
        self.suspects: set[str] = set()
        """Rows that can't be stored: it is to be found out which event makes them so."""

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

    def encode(self, now: datetime, poison: PoisonEvents) -> list[StoredRow] | None:
        """Return what was changed, as it is stored. None: something can't be, and is a suspect.

        What can't be though each of its events was looked at is put down to the last one.
        """
        rows, failed = [], False
        for id, row in self.changed.items():
            try:
                rows.append(self._encode(id, row, now))
            except UnstorableRow as error:
                if id in self.suspects:
                    poison.add(row.event, error)
                self.suspects.add(id)
                failed = True
        return None if failed else rows

    def _encode(self, id: str, row: CachedRow, now: datetime) -> StoredRow:
        if row.value is None:
            return StoredRow(id, None, row.point, now)
        fields, row.value = check_row(row.value)
        return StoredRow(id, fields, row.point, now)

    async def save(self, rows: Sequence[StoredRow]) -> None:
        if rows:
            await self._store.save(rows)
            self._written[self._table.name] += len(rows)

    def keep(self) -> None:
        """Cache what is at hand, now that it is stored."""
        self._cache.put_all(self._loaded)
        self._cache.trim()
        self._loaded, self.changed = {}, {}
        self.suspects.clear()

    def drop(self, ids: Iterable[str]) -> None:
        """Drop cached rows: others are stored."""
        self._cache.drop(ids)

    def undo(self) -> None:
        """Drop what events in hand have changed; nothing of it is stored."""
        self._cache.drop(self.changed)
        self._loaded, self.changed = {}, {}

    def forget(self) -> None:
        """Drop everything: it is unknown what was stored."""
        self._cache.clear()
        self._loaded, self.changed = {}, {}
        self.suspects.clear()

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
        self._tables = [self._rows, *(table for _, table in self._totals)]
        self._planned: list[tuple[CachedTable, list[StoredRow]]] = []
        self._last: ProjectedEvent | None = None
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

    async def plan(self, events: Sequence[ProjectedEvent]) -> Collection[RaisedOn]:
        """Work out what events make of the build; `save` stores it.

        The events are given in the partition's order but for repeats, which change nothing. Returns
        those that functions of the view raise on, or that make a row which can't be stored; these,
        and the later ones of their aggregates, are left out.
        """
        # Tombstones up to the point may be gone, so rows alone do not pass over what comes again.
        events = first_times(self.point, events)
        poison = PoisonEvents()
        if events:
            try:
                planned = None
                while planned is None:
                    planned = await self._plan(events, poison)
            except BaseException:
                self._forget(self._tables)
                raise
            self._planned, self._last = planned, events[-1]
        return poison.values()

    async def save(self) -> None:
        """Store what is planned."""
        if self._last is None:
            return
        try:
            for table, rows in reversed(self._planned):
                await table.save(rows)
        except BaseException:
            self._forget(self._tables)
            raise
        self._abreast = self._abreast or bool(self._rows.changed)
        for table in self._tables:
            table.keep()
        self.point = FeedPoint.of(self._last)
        self._planned, self._last = [], None

    async def replace_rows(self, rows: Sequence[StoredRow]) -> None:
        """Store rows of an aggregate that was folded anew, unless later ones are stored."""
        self._rows.drop([row.id for row in rows])
        await self._rows.save(rows)

    async def _plan(
        self, events: Sequence[ProjectedEvent], poison: PoisonEvents
    ) -> list[tuple[CachedTable, list[StoredRow]]] | None:
        """Return the rows to store, by table. None: an event in hand turned out to be poison, or is
        to be looked for; then all is to be planned again without it."""
        changes = await self._change_rows(events, poison)
        now = self._clock.now()
        rows = self._rows.encode(now, poison)
        planned = [(self._rows, rows)]
        for totals, table in self._totals if rows is not None else ():
            unspoilt = await self._change_totals(totals, table, changes, poison)
            planned.append((table, table.encode(now, poison) if unspoilt else None))
        if any(rows is None for _, rows in planned):
            for table in self._tables:
                table.undo()
            return None
        return cast(list[tuple[CachedTable, list[StoredRow]]], planned)

    def _forget(self, tables: Sequence[CachedTable]) -> None:
        for table in tables:
            table.forget()

    # The rows

    async def _change_rows(
        self, events: Sequence[ProjectedEvent], poison: PoisonEvents
    ) -> list[RowChange]:
        """Project all events; a row passes over those that it has, by their versions."""
        keyed = self._keyed(events, poison)
        fresh = [id for event, id in keyed if event.version == 1] if self._abreast else []
        rows = await self._rows.load([id for _, id in keyed], fresh)
        changes: list[RowChange] = []
        ahead = False
        # Locals: this loop runs for each event.
        view, project = self.view, self.view.project
        changed, totals, suspects = self._rows.changed, bool(self._totals), self._rows.suspects
        for event, id in keyed:
            if poison and poison.covers(event):
                continue
            row = rows[id]
            if event.version <= row.version:
                ahead = True
                continue
            before = row.value
            given = before and copy_value(before)  # a row that the function may spoil
            try:
                made = project(given, event)
                if made is given and (given is before or made == before):
                    continue
                made = made_row(view, "project", made)
                if suspects and id in suspects and made is not None:
                    check_row(made)
            except Exception as error:
                poison.add(event, error)
                continue
            row.change(made, event)
            changed[id] = row
            if totals:
                changes.append(RowChange(event, before, made))
        if ahead:
            self._forget([table for _, table in self._totals])
        return changes

    def _keyed(
        self, events: Sequence[ProjectedEvent], poison: PoisonEvents
    ) -> list[tuple[ProjectedEvent, str]]:
        """Return the events that the view does not pass over, with the ids of their rows."""
        key = self.view.key
        if key is row_of_aggregate:
            return [(event, event.aggregate_id + SEPARATOR) for event in events]
        keyed = []
        for event in events:
            try:
                found = check_key(self.view, key(event))
            except Exception as error:
                poison.add(event, error)
                continue
            if found is not None:
                keyed.append((event, row_id(event.aggregate_id, found)))
        return keyed

    # The totals

    async def _change_totals(
        self,
        totals: Totals[Any, Any],
        table: CachedTable,
        changes: Sequence[RowChange],
        poison: PoisonEvents,
    ) -> bool:
        """Take each changed row from its group as it was, and add it as it is.

        False: a function raised on an event, whose row is changed already.
        """
        steps, unspoilt = self._steps(totals, changes, poison)
        ids = [group.part_id for _, group, _, _ in steps]
        parts = await table.load(ids)
        stored = {id: parts[id].point for id in ids}
        suspects, functions = table.suspects, {"remove": totals.remove, "add": totals.add}
        done: tuple[Any, ...] = None, "", None
        for event, (id, empty), name, row in steps:
            if poison and poison.covers(event):
                continue
            if FeedPoint.of(event) > stored[id]:
                before = parts[id].value
                try:
                    part = copy_value(empty if before is None else before)
                    made = functions[name](part, copy_value(row))
                    part = made_part(totals, name, made)
                    if suspects and id in suspects:
                        check_row(part)
                except Exception as error:
                    poison.add(event, error)
                    unspoilt = False
                    if done[0] is event:  # others are not to see half of it
                        parts[done[1]].value = done[2]
                    continue
                done = event, id, before
                parts[id].change(None if part == empty else part, event)
                table.changed[id] = parts[id]
        return unspoilt

    def _steps(
        self, totals: Totals[Any, Any], changes: Sequence[RowChange], poison: PoisonEvents
    ) -> tuple[list[TotalsStep], bool]:
        """Return the changes of parts that follow from those of rows; False: `group` raised."""
        steps: list[TotalsStep] = []
        unspoilt, partition = True, self._partition
        for event, before, after in changes:
            try:
                lost = None if before is None else group_of(totals, before, partition)
                gained = None if after is None else group_of(totals, after, partition)
            except Exception as error:
                poison.add(event, error)
                unspoilt = False
                continue
            if lost is not None:
                steps.append((event, lost, "remove", cast(Row, before)))
            if gained is not None:
                steps.append((event, gained, "add", cast(Row, after)))
        return steps, unspoilt


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
