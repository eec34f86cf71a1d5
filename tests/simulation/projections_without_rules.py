"""The project role with one rule taken out each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventfleet.model.views import ProjectedEvent, View
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.event_applier import EventApplier
from eventfleet.roles.kept_builds import KeptBuilds
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_projector import NOT_STORED, CachedRow, CachedTable, ViewProjector
from eventfleet.roles.view_redrive import BuildRedrive, ViewRedrive
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.contracts.views import BuildProgress, StoredRow, ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.memory.views import MemoryRows, MemoryViews
from eventfleet.topics.parked import Discard
from eventfleet.topics.record import LogRecord, ProducerRecord

# Stores


class OverwritesRows(MemoryRows):
    """Without: a write is refused where the stored point is the same or later."""

    async def save(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            await self._yield_point()
            self._rows[row.id] = row
        await self._yield_point()


class DeletesAtOnce(MemoryRows):
    """Without: a deleted row stays as a tombstone."""

    async def save(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            await super().save([row])
            stored = self._rows.get(row.id)
            if stored is not None and stored.fields is None:
                del self._rows[row.id]


class NotesBlindly(MemoryViews):
    """Without: progress is noted only in place of the known one."""

    async def note_progress(
        self,
        view: str,
        number: int,
        partition: int,
        known: BuildProgress,
        progress: BuildProgress,
    ) -> bool:
        builds = self._builds.get(view, ViewBuilds())
        build = next((each for each in builds if each and each.number == number), None)
        noted = build.progress(partition) if build else known
        return await super().note_progress(view, number, partition, noted, progress)


class MakesAnyLive(MemoryViews):
    """Without: the store makes a build live only if it is ready in all partitions."""

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        return await super().make_live(view, number, 0)


# What applies events


class SavesRowsFirst(ViewProjector):
    """Without: totals are stored before the rows that they follow from."""

    def _cached_table(self, table: Any, capacity: int) -> CachedTable:
        kind = RowsFirst if table is self.view else TotalsLast
        made = kind(table, self._stores[table.name], capacity, self._written)
        made.waiting = self.__dict__.setdefault("waiting", [])
        return made


class RowsFirst(CachedTable):
    waiting: list[tuple[CachedTable, Sequence[StoredRow]]]

    async def save(self, rows: Sequence[StoredRow]) -> None:
        waiting, self.waiting[:] = [*self.waiting], []
        await super().save(rows)
        for table, parts in waiting:
            await CachedTable.save(table, parts)


class TotalsLast(CachedTable):
    waiting: list[tuple[CachedTable, Sequence[StoredRow]]]

    async def save(self, rows: Sequence[StoredRow]) -> None:
        self.waiting.append((self, rows))


class CachesAtOnce(ViewProjector):
    """Without: rows are cached once they are stored; they are forgotten if they may not be."""

    def _cached_table(self, table: Any, capacity: int) -> CachedTable:
        return CachingTable(table, self._stores[table.name], capacity, self._written)

    def _forget(self, tables: Sequence[CachedTable]) -> None:
        if self._rows not in tables:
            super()._forget(tables)
            return
        for table in tables:
            table.keep()


class CachingTable(CachedTable):
    async def load(self, ids: Iterable[str], fresh: Iterable[str] = ()) -> Mapping[str, CachedRow]:
        rows = await super().load(ids, fresh)
        self._cache.put_all(rows)  # what becomes of them before they are stored, too
        return rows


class AppliesTwice(ViewProjector):
    """Without: a row passes over the events that it has."""

    def _cached_table(self, table: Any, capacity: int) -> CachedTable:
        kind = ForgetfulTable if table is self.view else CachedTable
        return kind(table, self._stores[table.name], capacity, self._written)


class ForgetfulTable(CachedTable):
    async def load(self, ids: Iterable[str], fresh: Iterable[str] = ()) -> Mapping[str, CachedRow]:
        rows = await super().load(ids, fresh)
        for row in rows.values():
            row.version = 0
        return rows


class AddsTwice(ViewProjector):
    """Without: a part of totals passes over the events that it has."""

    def _cached_table(self, table: Any, capacity: int) -> CachedTable:
        kind = CachedTable if table is self.view else PointlessTable
        return kind(table, self._stores[table.name], capacity, self._written)


class PointlessTable(CachedTable):
    async def load(self, ids: Iterable[str], fresh: Iterable[str] = ()) -> Mapping[str, CachedRow]:
        parts = await super().load(ids, fresh)
        self._loaded = {id: CachedRow(part.value, NOT_STORED) for id, part in parts.items()}
        return self._loaded


def behind(point: FeedPoint, events: Sequence[ProjectedEvent]) -> Sequence[ProjectedEvent]:
    """Without: a repeat is left out wherever it stands in a chunk."""
    if events and FeedPoint.of(events[0]) <= point:
        return [event for event in events if FeedPoint.of(event) > point]
    return events


class TrustsFirstEvents(ViewProjector):
    """Without: the first event of an aggregate is new only behind all that came before."""

    @property
    def _abreast(self) -> bool:
        return True

    @_abreast.setter
    def _abreast(self, value: bool) -> None:
        pass


class KeepsParts(ViewProjector):
    """Without: parts of totals are read again where a stored row turns out to be ahead."""

    def _forget(self, tables: Sequence[CachedTable]) -> None:
        if self._rows in tables:
            super()._forget(tables)


# The role


class CommitsFirst(ProjectRole):
    """Without: the offset is committed once the rows are stored."""

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        writer: Any = self._writer
        await writer.commit([], next_offset)
        self._writer = Committed()  # type: ignore[assignment]
        try:
            return await super().process(records, next_offset)
        finally:
            self._writer = writer


class Committed:
    async def commit(self, records: Any, next_offset: int, last: Any = ()) -> None:
        """It is done."""


class WithPart(ProjectRole):
    """The role, of which one part is of another class."""

    part: type[Any]

    def __init__(self, *about: Any, **named: Any) -> None:
        super().__init__(*about, **named)
        [replaced] = [each for each in vars(self).values() if type(each) is self.part.__base__]
        replaced.__class__ = self.part


class ReadyBuilds(KeptBuilds):
    def _is_taken_over(self, known: BuildProgress, *, is_kept: bool) -> bool:
        return not known.ready


class LeavesBuildsReady(WithPart):
    """Without: an owner that does not keep a build says so before its first chunk."""

    part = ReadyBuilds


class UncountedBuilds(KeptBuilds):
    def _is_taken_over(self, known: BuildProgress, *, is_kept: bool) -> bool:
        return not is_kept


class CountsNoTakeover(WithPart):
    """Without: an owner counts that it takes over the builds that are not ready."""

    part = UncountedBuilds


class CarriedBuilds(KeptBuilds):
    def clear(self) -> None:
        self._noted.clear()

    def keep(self, view: View[Any], build: ViewBuild) -> ViewProjector:
        key = view.name, build.number
        self._noted[key] = build.progress(self._partition)
        return self.projectors.get(key) or super().keep(view, build)


class KeepsProjectors(WithPart):
    """Without: who takes a partition over begins with nothing in memory."""

    part = CarriedBuilds


class AppliesLiveFirst(ProjectRole):
    """Without: a build that follows gets a chunk before the live one."""

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        in_order = self._kept.projectors
        self._kept.projectors = dict(reversed(in_order.items()))
        try:
            return await super().process(records, next_offset)
        finally:
            self._kept.projectors = in_order


# Parking


class ParksWithItsOffset(BuildParking):
    """Without: what is parked is committed before a build is written to without it."""

    @property
    def is_changed(self) -> bool:
        return False


class ParksAfterItsOffset(ProjectRole):
    """Without: what is parked is written in one transaction with the offset."""

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        await self._writer.commit(out, next_offset)
        await super()._commit([], next_offset)


class PassesNothingOver(EventApplier):
    _lets_pass = True

    def _passes_over(self, build: str, event: ProjectedEvent, report: ChunkReport) -> bool:
        return not self._lets_pass and super()._passes_over(build, event, report)


class LetsLaterEventsPass(WithPart):
    """Without: later events of a parked aggregate are parked behind it."""

    part = PassesNothingOver


class PassesNothingOverBehind(EventApplier):
    _lets_pass = False

    async def catch_up(self, *about: Any) -> None:
        self._lets_pass = True
        try:
            await super().catch_up(*about)
        finally:
            self._lets_pass = False

    def _passes_over(self, build: str, event: ProjectedEvent, report: ChunkReport) -> bool:
        return not self._lets_pass and super()._passes_over(build, event, report)


class CatchesUpWithAll(WithPart):
    """The same, of builds that are brought up to date."""

    part = PassesNothingOverBehind


class TotalsInPlace(ViewRedrive):
    async def _note_stale(self, redrive: BuildRedrive) -> None:
        if redrive.discards:
            await super()._note_stale(redrive)


class KeepsBuildsWithTotals(WithPart):
    """Without: after a redrive builds that have totals are built anew."""

    part = TotalsInPlace


class RowsLast(ViewRedrive):
    async def redrive(self, *about: Any) -> None:
        kept = self._kept.projectors
        waiting = {key: WaitingRows(projector) for key, projector in kept.items()}
        self._kept.projectors = waiting  # type: ignore[assignment]
        try:
            await super().redrive(*about)
        finally:
            if self._kept.projectors is waiting:  # type: ignore[comparison-overlap]
                self._kept.projectors = kept
        for each in waiting.values():
            await each.store()


class EndsEntriesFirst(WithPart):
    """Without: a redrive has the rows stored before it ends the entry."""

    part = RowsLast


class WaitingRows:
    """A projector that replaces rows when it is told to."""

    def __init__(self, projector: ViewProjector) -> None:
        self._projector, self._rows = projector, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._projector, name)

    async def replace_rows(self, rows: Any) -> None:
        self._rows.append(rows)

    async def store(self) -> None:
        for rows in self._rows:
            await self._projector.replace_rows(rows)


class InPlaceDiscards(ViewRedrive):
    async def _note_stale(self, redrive: BuildRedrive) -> None:
        discard, redrive._discard = redrive._discard, None
        await super()._note_stale(redrive)
        redrive._discard = discard


class DiscardsInPlace(WithPart):
    """Without: after a discard each build is built anew."""

    part = InPlaceDiscards


class MakesHeldLive(ProjectRole):
    """Without: a build that parks what the live one has is held."""

    def __init__(self, *about: Any, **named: Any) -> None:
        super().__init__(*about, **named)
        self._kept.held.reason = lambda key: ""  # type: ignore[method-assign]


class ParksForAllBuilds(BuildParking):
    """Without: an aggregate is parked in the build alone whose code raises."""

    def parks(self, build: str, event: ProjectedEvent) -> bool:
        known = self.aggregates.get(event.aggregate_id)
        return known is not None and event.version >= known.first


class ForgetsDiscards(BuildParking):
    """Without: an owner knows what was discarded before."""

    async def _load(self) -> ParkedEntries:
        return (await super()._load())._replace(discarded=[])

    def discard_first(self, aggregate_id: str, discard: Discard) -> None:
        super().discard_first(aggregate_id, discard)
        self.discards.clear()
