"""Runs the functions of a domain's views on each event, as project does."""

from functools import partial
from typing import Any

from eventfleet.audit.summed_totals import SummedTotals
from eventfleet.audit.view_comparison import MAX_PARTS, ViewComparison
from eventfleet.audit.view_fold import MAX_ROWS, TooManyRows, ViewFold
from eventfleet.check.parked_check import RoleFaults
from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.check.role_entries import RoleEntries
from eventfleet.model.team_traceback import describe_error, error_key
from eventfleet.model.views import ProjectedEvent, Row, Totals, View

ROLE = "project"
CORRECT_VIEW = "correct the view's function, or what it returns"
CORRECT_MERGE = "correct `merge`: it joins the parts of two partitions"
QUERIES_FAIL = "queries of these totals fail"
MANY_PARTS = f"totals of more than {MAX_PARTS:,} groups were added up in parts"
MANY_ROWS = f"aggregates with more than {MAX_ROWS:,} rows in a view were checked up to there"


class ViewCheck:
    """Folds a view in each aggregate, and adds its totals up; holds one aggregate's rows.

    With a `comparison` the rows are compared with those of the view's live build.
    """

    def __init__(
        self,
        view: View[Any],
        report: CheckReport,
        faults: RoleFaults,
        comparison: ViewComparison | None = None,
    ) -> None:
        self._view, self._report, self._faults = view, report, faults
        self._comparison = comparison
        self._fold = ViewFold(view, "", 0)
        self._entries = RoleEntries()
        self._sums = {
            totals.name: SummedTotals(totals, MAX_PARTS, partial(self._end_part, totals))
            for totals in view.totals
        }
        self._spilt = 0

    def begin(self, aggregate_id: str, partition: int, entries: RoleEntries) -> None:
        """Go on to an aggregate. Of one that the build parks, rows are not compared."""
        self._entries, compared = entries, self._comparison
        if compared and entries.parked_in(compared.build):
            compared.skip(aggregate_id, partition)
            compared = None
        self._fold = ViewFold(self._view, aggregate_id, partition, compared)

    def apply(self, event: ProjectedEvent, *, discarded: bool) -> None:
        """Apply an event, with its payload."""
        if discarded or self._entries.passes_over(ROLE, event.version):
            self._fold.pass_over(event, marked=discarded)
            return
        try:
            self._fold.apply(event)
        except TooManyRows:
            self._report.note(MANY_ROWS)
        except Exception as error:
            called = self._fold.called
            detail, key = describe_error(error, called), error_key(error, called)
            self._faults.add(ROLE, event.version, f"view {self._view.name}: {detail}")
            where = f"view {self._view.name}, event {event.type}"
            place = event.aggregate_id, event.version
            found = Finding(Kind.VIEW, where, detail, CORRECT_VIEW, 1, "aggregates", *place)
            self._report.add(found, key)

    def skip(self, version: int, detail: str) -> None:
        """Stop at an event that can't be read; its fold finds why."""
        if not self._fold.broken:
            self._faults.add(ROLE, version, detail)
            self._fold.give_up()

    def end(self) -> None:
        """End the aggregate, and add up its totals."""
        self._fold.end()
        for totals in self._view.totals:
            if totals.name in self._sums:
                self._add_up(totals)

    def finish(self) -> None:
        """End the check: each part that is left is merged with itself, as it may be in a query."""
        for name, sums in [*self._sums.items()]:
            if name in self._sums:
                sums.end()
        self._report.note(MANY_PARTS, int(self._spilt > MAX_PARTS))

    def _add_up(self, totals: Totals[Any, Any]) -> None:
        try:
            self._sums[totals.name].add(self._fold.folded.parts(totals))
        except Exception as error:
            self._fail(totals, error)

    def _end_part(self, totals: Totals[Any, Any], id: str, part: Row) -> None:
        self._spilt += 1
        if totals.name in self._sums:
            try:
                totals.merge(part, part)
            except Exception as error:
                self._fail(totals, error)

    def _fail(self, totals: Totals[Any, Any], error: Exception) -> None:
        self._sums.pop(totals.name)
        where, detail = f"totals {totals.name}", describe_error(error, totals.merge)
        found = Finding(Kind.VIEW, where, detail, CORRECT_MERGE, consequence=QUERIES_FAIL)
        self._report.add(found, error_key(error, totals.merge))
