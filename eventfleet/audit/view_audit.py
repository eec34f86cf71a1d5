"""Compares a domain's views with folds of their events, beside the check of its aggregates."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import name_of
from eventfleet.audit.view_comparison import Difference, ViewComparison
from eventfleet.audit.view_fold import TooManyRows, ViewFold
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.stores.contracts import LogReader
from eventfleet.stores.contracts.views import ViewBuilds, ViewStore
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.partitioner import partition_of

ROLE = "project"
NOT_BUILT = "views of which queries read no build of the declared version"
STALE = "views whose build is about to be replaced"
LARGE = "aggregates with too many rows to be compared"
RAISE_VERSION = "it was altered, or functions of the view were changed: then raise `version`"


class ViewAudit:
    """The comparisons of the views of one domain.

    `names`: the views that are compared, all without. `sample`: the aggregates whose rows are
    compared; with it no totals are.
    """

    def __init__(
        self,
        domain: Domain[Any],
        views: ViewStore | None,
        report: AuditReport,
        *,
        names: Collection[str] = (),
        sample: Collection[str] | None = None,
    ) -> None:
        self._domain, self._views, self._report = domain, views, report
        self._names, self._sample = names, sample
        self._comparisons: list[ViewComparison] = []
        self._parked: dict[str, ParkedAggregate] = {}
        self._discards: set[tuple[str, int]] = set()
        self._partitions = 1

    async def open(self, reader: LogReader) -> None:
        """Read the builds' progress, then what project parks; due before the events are read."""
        known = await self._views.builds() if self._views else {}
        for view in self._domain.views if known else ():
            if self._names and view.name not in self._names:
                continue
            read = known.get(view.name, ViewBuilds()).read_by(view.shape)
            if read is None:
                self._report.count_unjudged(NOT_BUILT)
            elif read.stale:
                self._report.count_unjudged(STALE)
            elif self._views:
                self._comparisons.append(ViewComparison(view, read, self._views))
        if self._comparisons:
            await self._read_parked(reader)

    async def _read_parked(self, reader: LogReader) -> None:
        topics, log = self._domain.topics, TopicParkedLog(self._domain.topics, reader)
        self._partitions = len(await reader.watermarks(topics.stored)) or 1
        for partition in await reader.watermarks(topics.parked):
            parked, discarded = await log.load(ROLE, partition)
            self._parked |= {each.aggregate_id: each for each in parked}
            self._discards.update((each.aggregate_id, each.version) for each in discarded)

    def close(self) -> None:
        """Remove what is on disk."""
        for comparison in self._comparisons:
            comparison.close()

    def of(self, aggregate_id: str) -> "AggregateViews":
        """Return the views of an aggregate, to be folded."""
        partition = partition_of(aggregate_id, self._partitions)
        compared = self._comparisons
        if self._sample is not None and aggregate_id not in self._sample:
            compared = []
        folds = []
        for each in compared:
            if self._is_parked(aggregate_id, each):
                each.skip(aggregate_id, partition)
            else:
                folds.append(ViewFold(each.view, aggregate_id, partition, each))
        return AggregateViews(self._domain, folds, self._discards, self._report)

    def _is_parked(self, aggregate_id: str, comparison: ViewComparison) -> bool:
        """Return whether a build parks an aggregate; an entry that names no build is for all."""
        parked = self._parked.get(aggregate_id)
        return parked is not None and (not parked.builds or comparison.build in parked.builds)

    async def judge(self) -> None:
        """Compare the stored rows, and report what differs; due after all events."""
        for comparison in self._comparisons:
            try:
                await comparison.read(self._sample)
            except (KeyError, TypeError, ValueError) as error:
                fault = f"the rows can't be read from the store: {describe_error(error)}"
                self._report.add_problem("view", comparison.view.name, fault)
                continue
            async for difference in comparison.differences():
                self._report.violate(3, difference.aggregate_id, _describe(comparison, difference))
            self._report.rows += comparison.rows
            for reason, count in comparison.unjudged.items():
                self._report.count_unjudged(reason, count)
            for table, fault in comparison.faults.items():
                self._report.add_problem("view", table, f"`merge` raised {fault}")


class AggregateViews:
    """The views of one aggregate, folded event by event."""

    def __init__(
        self,
        domain: Domain[Any],
        folds: Sequence[ViewFold],
        discards: Collection[tuple[str, int]],
        report: AuditReport,
    ) -> None:
        self._domain, self._folds, self._discards = domain, folds, discards
        self._report = report
        self._version = 0

    def add(self, event: EventRecord) -> None:
        """Apply the next event."""
        if not self._folds:
            return
        gap, self._version = event.version != self._version + 1, event.version
        if gap:
            self.skip()
        elif event.discarded or (event.aggregate_id, event.version) in self._discards:
            for fold in self._folds:
                fold.pass_over(event, marked=event.discarded)
        else:
            self._apply(event)

    def _apply(self, event: EventRecord) -> None:
        try:
            payload: Any = self._domain.payload(event)
        except Exception:  # a problem of the event, which the fold of the state reports
            self.skip()
            return
        typed = replace(event, data=payload)
        for fold in self._folds:
            try:
                fold.apply(typed)
            except TooManyRows:
                self._report.count_unjudged(LARGE)
            except Exception as error:
                fault = f"{name_of(event)}: a view raised {describe_error(error, fold.called)}"
                self._report.add_problem("view", event.aggregate_id, fault)

    def skip(self) -> None:
        """Stop at an event that can't be read."""
        for fold in self._folds:
            fold.give_up()

    def end(self) -> None:
        """End with the last event."""
        for fold in self._folds:
            fold.end()


def _describe(comparison: ViewComparison, difference: Difference) -> str:
    kind = "view" if difference.table == comparison.view.name else "totals"
    fault = f"{kind} {difference.table}: {difference.where} {difference.fault}"
    return f"{fault}: {RAISE_VERSION}"
