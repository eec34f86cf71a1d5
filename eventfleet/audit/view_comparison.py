"""Compares a build that queries read with a fold of its events; also while the fleet works.

The progress of the build is read before the events, and the rows after them. All events up to the
build's point are applied: so a row, or a partition's part of totals, that no later event has
changed is what the events up to there make it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from eventfleet.audit.spool import Spool
from eventfleet.audit.summed_totals import SummedTotals
from eventfleet.audit.view_rows import (
    NOT_JUDGED,
    AnyComparedRow,
    ExpectedPart,
    ExpectedRow,
    FoldedAggregate,
    KeptPart,
    KeptRow,
    by_key,
)
from eventfleet.model.folded_view import FoldedView
from eventfleet.model.team_traceback import describe_error
from eventfleet.model.view_functions import SEPARATOR
from eventfleet.model.view_rows import decode_group, decode_row, encode_row
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.roles.build_parking import build_name
from eventfleet.stores.contracts.views import RowQuery, StoredRow, ViewBuild, ViewBuilds, ViewStore
from eventfleet.stores.cursors import FeedPoint

MAX_PARTS = 10_000
PART_BUCKETS = 64
PAGE_ROWS = 500

NOT_PROJECTED = "rows of views that later events change"
NOT_FOLDED = "rows of views in aggregates that are parked or can't be folded"
TOTALS_NOT_FOLDED = "totals of partitions with aggregates that are parked or can't be folded"
DISCARDED = "rows of views that differ, and may be older than a discard"
REPLACED = "views of which another build went live meanwhile"


class Difference(NamedTuple):
    """A row of a table that is not what the events give.

    `where` names the row within its aggregate, or the group of totals; `fault` says what is wrong.
    """

    table: str
    aggregate_id: str
    where: str
    fault: str


class ViewComparison:
    """Compares one build: `add` what events give, `read` what is stored, then the `differences`.

    `rows` counts the compared rows, `unjudged` by reason what was not. `faults`: by totals, what
    `merge` has raised.
    """

    def __init__(self, view: View[Any], build: ViewBuild, views: ViewStore) -> None:
        self.view, self.rows = view, 0
        self.unjudged: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self._build, self._views = build, views
        points = {number: progress.point for number, progress in build.partitions.items()}
        self._points = {number: point for number, point in points.items() if point}
        self._rows: Spool[AnyComparedRow] = Spool(AnyComparedRow, by_key)
        self._parts: Spool[AnyComparedRow] = Spool(AnyComparedRow, by_key, PART_BUCKETS)
        self._totals = {totals.name: totals for totals in view.totals}
        self._sums = {
            name: SummedTotals(totals, MAX_PARTS, partial(self._spill, name))
            for name, totals in self._totals.items()
        }
        self._unsure: set[int] = set()  # partitions with aggregates that were not folded
        self._marked: set[int] = set()  # partitions whose totals may have discarded events

    @property
    def build(self) -> str:
        """The name of the build, as parked aggregates have it."""
        return build_name(self.view.name, self._build.number)

    def close(self) -> None:
        """Remove what is on disk."""
        for spool in (self._rows, self._parts):
            spool.__exit__()

    # What the events give

    def covers(self, event: ProjectedEvent) -> bool:
        """Return whether the build has applied an event."""
        if not event.position:
            return False
        at = FeedPoint.of(event)
        point = self._points.get(at.partition)
        if point and at.epoch > point.epoch:  # it may have been appended again, and applied before
            self._unsure.add(at.partition)
        return point is not None and at <= point

    def add(
        self, aggregate_id: str, version: int, folded: FoldedView, marked_in: int | None = None
    ) -> None:
        """Add an aggregate as it is after a version, the last one that the build covers.

        `marked_in` is its partition where events of it are marked as discarded: the build may have
        applied them before, and so its rows and the partition's totals may differ.
        """
        self._rows.add(FoldedAggregate(aggregate_id, version, marked_in is not None))
        if marked_in is not None:
            self._marked.add(marked_in)
        for id, row in folded.rows.items():
            self._rows.add(ExpectedRow(aggregate_id, id, encode_row(row)))
        for totals in self.view.totals:
            if totals.name not in self.faults:
                self._sum(totals, folded.parts(totals))

    def skip(self, aggregate_id: str, partition: int) -> None:
        """Leave an aggregate out, whose rows are not known."""
        self._rows.add(FoldedAggregate(aggregate_id, NOT_JUDGED))
        self._unsure.add(partition)

    def _sum(self, totals: Totals[Any, Any], parts: Mapping[str, Row]) -> None:
        try:
            self._sums[totals.name].add(parts)
        except Exception as error:
            self._note_fault(totals.name, error)

    def _note_fault(self, table: str, error: Exception) -> None:
        self.faults[table] = describe_error(error, self._totals[table].merge)

    def _spill(self, table: str, id: str, part: Row) -> None:
        self._parts.add(ExpectedPart(id, table, encode_row(part)))

    # What is stored

    async def read(self, sample: Collection[str] | None = None) -> None:
        """Read the stored rows: all, or of a sample those of its aggregates, and no totals."""
        async for row in self._stored(self.view.name):
            aggregate_id = row.id.partition(SEPARATOR)[0]
            if sample is None or aggregate_id in sample:
                later, fields = self._is_later(row), row.fields or {}
                self._rows.add(KeptRow(aggregate_id, row.id, row.point.version, later, fields))
        if sample is not None:
            return
        for totals in self.view.totals:
            self._sums[totals.name].end()
            async for row in self._stored(totals.name):
                later, fields = self._is_later(row), row.fields or {}
                self._parts.add(KeptPart(row.id, totals.name, later, fields))

    async def _stored(self, table: str) -> AsyncIterator[StoredRow]:
        store = self._views.rows(self.view.name, table, self._build.number)
        query, full = RowQuery(), True
        while full:
            page = await store.find(query, PAGE_ROWS)
            for row in page:
                yield row
            full = len(page) == PAGE_ROWS
            query = query._replace(after=(None, page[-1].id)) if page else query

    def _is_later(self, row: StoredRow) -> bool:
        point = self._points.get(row.point.partition)
        return point is None or row.point > point

    # What differs

    async def differences(self) -> AsyncIterator[Difference]:
        """Yield what differs; none where another build went live meanwhile."""
        builds = (await self._views.builds()).get(self.view.name, ViewBuilds())
        read = builds.read_by(self._build.shape)
        if read is None or read.number != self._build.number:
            self.unjudged[REPLACED] += 1
            return
        for bucket in range(len(self._rows)):
            for difference in await self._confirmed(self._differing_rows(bucket)):
                yield difference
        for bucket in range(len(self._parts)):
            for difference in await self._confirmed(self._differing_parts(bucket)):
                yield difference

    async def _confirmed(self, found: Iterator[tuple[str, Difference, bool]]) -> list[Difference]:
        """Return differences, of missing rows those that no later event has removed."""
        differences, missing = list[Difference](), dict[tuple[str, str], Difference]()
        for id, difference, is_missing in found:
            if is_missing:
                missing[difference.table, id] = difference
            else:
                differences.append(difference)
        for table in {table for table, _ in missing}:
            ids = [id for name, id in missing if name == table]
            stored = await self._views.rows(self.view.name, table, self._build.number).load(ids)
            for id in ids:
                if id in stored and self._is_later(stored[id]):
                    self.unjudged[NOT_PROJECTED] += 1
                else:
                    differences.append(missing[table, id])
        return differences

    def _differing_rows(self, bucket: int) -> Iterator[tuple[str, Difference, bool]]:
        versions: dict[str, int] = {}
        unsure: set[str] = set()
        folded: defaultdict[str, dict[str, ExpectedRow]] = defaultdict(dict)
        kept: defaultdict[str, dict[str, KeptRow]] = defaultdict(dict)
        for row in self._rows.read(bucket):
            match row:
                case FoldedAggregate(key, version):
                    versions[key] = version
                    if row.unsure:
                        unsure.add(key)
                case ExpectedRow(key, id):
                    folded[key][id] = row
                case KeptRow(key, id):
                    kept[key][id] = row
        for key in {**versions, **kept}:
            last = versions.get(key)
            if last == NOT_JUDGED:
                self.unjudged[NOT_FOLDED] += len(kept[key])
                continue
            for id in {**folded[key], **kept[key]}:
                expected, stored = folded[key].get(id), kept[key].get(id)
                if stored and (stored.later or (last is not None and stored.version > last)):
                    self.unjudged[NOT_PROJECTED] += 1
                    continue
                self.rows += 1
                if (fault := _fault(expected, stored)) and key in unsure:
                    self.unjudged[DISCARDED] += 1
                elif fault:
                    found = Difference(self.view.name, key, _row_name(id), fault)
                    yield id, found, stored is None

    def _differing_parts(self, bucket: int) -> Iterator[tuple[str, Difference, bool]]:
        folded: defaultdict[tuple[str, str], list[ExpectedPart]] = defaultdict(list)
        kept: dict[tuple[str, str], KeptPart] = {}
        for row in self._parts.read(bucket):
            match row:
                case ExpectedPart(key, table):
                    folded[table, key].append(row)
                case KeptPart(key, table):
                    kept[table, key] = row
        for table, key in {**folded, **kept}:
            stored = kept.get((table, key))
            partition = _partition_of(key)
            if table in self.faults or partition in self._unsure:
                self.unjudged[TOTALS_NOT_FOLDED] += 1
            elif stored and stored.later:
                self.unjudged[NOT_PROJECTED] += 1
            else:
                try:
                    expected = self._merged(table, key, folded[table, key])
                except Exception as error:
                    self._note_fault(table, error)
                    continue
                self.rows += 1
                if (fault := _fault(expected, stored)) and partition in self._marked:
                    self.unjudged[DISCARDED] += 1
                elif fault:
                    yield key, Difference(table, "", _part_name(key), fault), stored is None

    def _merged(self, table: str, id: str, parts: list[ExpectedPart]) -> ExpectedPart | None:
        """Merge parts; None for a total of nothing, which is not stored."""
        if not parts:
            return None
        totals = self._totals[table]
        rows = [decode_row(totals.row, each.fields) for each in parts]
        merged = rows[0]
        for row in rows[1:]:
            merged = self._sums[table].merge(merged, row)
        empty = decode_group(totals.row, id.rpartition(SEPARATOR)[0])
        return None if merged == empty else ExpectedPart(id, table, encode_row(merged))


def _row_name(id: str) -> str:
    key = id.partition(SEPARATOR)[2]
    return f"row {key!r}" if key else "the row"


def _partition_of(part_id: str) -> int | None:
    _, _, partition = part_id.rpartition(SEPARATOR)
    return int(partition) if partition.isdecimal() else None


def _part_name(id: str) -> str:
    group, _, partition = id.rpartition(SEPARATOR)
    return f"the total {group} of partition {partition}"


def _fault(folded: ExpectedRow | ExpectedPart | None, kept: KeptRow | KeptPart | None) -> str:
    """Return what is wrong with a stored row; nothing where it is as expected."""
    if folded is None:
        return "" if kept is None else "is stored, but does not follow from the events"
    if kept is None:
        return "is missing"
    expected, stored = folded.fields, kept.fields
    names = sorted(
        name
        for name in {*expected, *stored}
        if not (name in expected and name in stored and _equal(expected[name], stored[name]))
    )
    if not names:
        return ""
    return f"differs from the fold of its events in {', '.join(f'`{name}`' for name in names)}"


def _equal(one: Any, other: Any) -> bool:
    """Compare values; sums of floats depend on their order in the last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)
