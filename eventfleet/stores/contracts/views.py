"""Contracts of the views' stores: the rows of one table, and the builds of a domain's views."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from eventfleet.model.views import ViewShape
from eventfleet.stores.cursors import FeedPoint

Fields = dict[str, Any]
"""A row as plain values, such as JSON has; a text of a time sorts as the time does."""


class StoredRow(NamedTuple):
    """A row as it is stored; without `fields` it is the tombstone of a deleted one.

    `point` is that of the last event that changed it: a row has one writing partition, whose events
    are ordered. `written_at` is when it was written.
    """

    id: str
    fields: Fields | None
    point: FeedPoint
    written_at: datetime


class Comparison(StrEnum):
    """How a filter compares a row's field with its value."""

    EQUAL = "eq"
    BELOW = "lt"
    AT_MOST = "lte"
    ABOVE = "gt"
    AT_LEAST = "gte"
    IN = "in"


class RowFilter(NamedTuple):
    """A condition on one field; the value of IN is a list."""

    field: str
    comparison: Comparison
    value: Any


class AggregateSelection(NamedTuple):
    """Aggregates of a domain, by their ids or by prefixes of them; an empty one selects none."""

    ids: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def selects(self, aggregate_id: str) -> bool:
        return aggregate_id in self.ids or aggregate_id.startswith(self.prefixes)


class RowQuery(NamedTuple):
    """A query of rows: those that pass all filters, by a field (or by id) in one direction.

    Rows of the same value come in the order of their ids. `after` is the value and the id of the
    last row of the page before; without `order_by` the value is None. None, and a field that is
    missing, come before all values. The values of a field that orders rows are of one kind.
    With `aggregates` only their rows are found.
    """

    filters: Sequence[RowFilter] = ()
    order_by: str | None = None
    descending: bool = False
    after: tuple[Any, str] | None = None
    aggregates: AggregateSelection | None = None


class RowStore(Protocol):
    """The rows of one table of one build."""

    async def prepare(self, indexes: Sequence[Sequence[str]]) -> None:
        """Create the indexes over these fields, where missing."""

    async def load(self, ids: Collection[str]) -> dict[str, StoredRow]:
        """Return the stored rows among these, tombstones too; it reads what a majority has."""

    async def save(self, rows: Sequence[StoredRow]) -> None:
        """Store different rows, each unless it is stored with this point or a later one.

        In any order, and durably once it returns.
        """

    async def find(self, query: RowQuery, limit: int) -> list[StoredRow]:
        """Return up to `limit` rows that a query finds, without tombstones."""

    async def purge(self, up_to: FeedPoint, before: datetime) -> int:
        """Remove the tombstones of a point's partition, up to the point, that were written before a
        moment; return how many.
        """


class BuildProgress(NamedTuple):
    """The progress of a build in one partition.

    `ready`: all events up to the project group's committed offset are applied, since an owner that
    maintains the build has followed. `point`: all events up to here are, however late it was noted.
    `takeovers`: how often an owner took the partition over while the build was not ready there, or
    left the build behind; what an earlier owner notes after that is refused. `stale`: events were
    redriven or discarded that the build can't be corrected by, so that it is to be built anew.
    `held`: why it must not be made live, although nothing more may be left to apply; else empty.
    """

    ready: bool = False
    point: FeedPoint | None = None
    takeovers: int = 0
    stale: bool = False
    held: str = ""


class ViewBuild(NamedTuple):
    """A build of a view: all its rows and totals, made by one version of its functions."""

    number: int
    shape: ViewShape
    partitions: Mapping[int, BuildProgress]

    def progress(self, partition: int) -> BuildProgress:
        return self.partitions.get(partition, BuildProgress())

    @property
    def stale(self) -> bool:
        """True when it is stale in a partition."""
        return any(progress.stale for progress in self.partitions.values())

    @property
    def held(self) -> Mapping[int, str]:
        """Why it must not be made live, by partition."""
        return {number: each.held for number, each in self.partitions.items() if each.held}


class ViewBuilds(NamedTuple):
    """The builds of a view: the live one, the one that will follow it, and the former one.

    The former was the live one of another shape, before the present shape. It is kept for
    processes that declare it, should the deployment be taken back.
    """

    live: ViewBuild | None = None
    next: ViewBuild | None = None
    former: ViewBuild | None = None

    @property
    def last_number(self) -> int:
        return max((build.number for build in self if build), default=0)

    def read_by(self, shape: ViewShape) -> ViewBuild | None:
        """Return the build that queries read which declare a shape; None: none has it yet."""
        known = [build for build in (self.live, self.former) if build and build.shape == shape]
        return known[0] if known else None

    def begun(self, shape: ViewShape, last_number: int) -> "ViewBuilds | None":
        """Return the builds once the next one is begun; None: `last_number` is not the last."""
        if self.last_number != last_number:
            return None
        return self._replace(next=ViewBuild(last_number + 1, shape, {}))

    def noted(
        self, number: int, partition: int, known: BuildProgress, progress: BuildProgress
    ) -> "ViewBuilds | None":
        """Return the builds with the progress of one; None: another is noted, or it is gone."""
        build = next((each for each in self if each and each.number == number), None)
        if build is None or build.progress(partition) != known:
            return None
        noted = build._replace(partitions={**build.partitions, partition: progress})
        return ViewBuilds(*(noted if each is build else each for each in self))

    def made_live(self, number: int, partitions: int) -> "ViewBuilds | None":
        """Return the builds once the next or former one is live; None: it is neither, or is not
        ready in all partitions."""
        others = self.next, self.former
        build = next((each for each in others if each and each.number == number), None)
        if build is None or not all(build.progress(each).ready for each in range(partitions)):
            return None
        following = None if self.next is build else self.next
        return ViewBuilds(build, following, self.former_after(build))

    def former_after(self, build: ViewBuild) -> ViewBuild | None:
        """Return the former build once another one is made live."""
        replaced = self.live and self.live.shape != build.shape
        return self.live if replaced else self.former


class ViewStore(Protocol):
    """The builds of the views of one domain."""

    async def builds(self) -> dict[str, ViewBuilds]:
        """Return the builds of all views, by the view's name; one query."""

    async def begin(
        self, view: str, tables: Sequence[str], shape: ViewShape, last_number: int
    ) -> bool:
        """Begin the next build of a view and its tables, with the number after `last_number`.

        A build that was to follow is given up. False: another build was begun meanwhile. All builds
        but the live, the former and the new one are removed; so is what was written to them since.
        """

    async def note_progress(
        self,
        view: str,
        number: int,
        partition: int,
        known: BuildProgress,
        progress: BuildProgress,
    ) -> bool:
        """Note the progress of a build in a partition, durably, in place of the `known` one.

        False: another one is noted, by another owner, or the build is gone.
        """

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        """Make the next or the former build the live one, if it is ready in all partitions.

        One step. False: it is not ready, or no longer the next or the former one. The build before
        becomes the former one if it has another shape; if not, it is kept for those who read it
        just now.
        """

    async def note_repaired(self, view: str, number: int) -> None:
        """Note, durably, that the builds up to a number may lack events, or have wrong ones.

        Their store was repaired since. A lower number than the noted one changes nothing.
        """

    async def repaired(self) -> dict[str, int]:
        """Return the noted numbers, by view."""

    def rows(self, view: str, table: str, number: int) -> RowStore:
        """Return the rows of a table of a view, the view itself or its totals, in a build."""
