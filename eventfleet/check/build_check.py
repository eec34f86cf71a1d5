"""Compares the declared views with their builds in the store."""

from typing import Any

from eventfleet.audit.view_comparison import Difference, ViewComparison
from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import place_of
from eventfleet.model.views import View
from eventfleet.stores.contracts.views import ViewBuilds, ViewStore

BUILT_ANEW = "is built by project after the deployment; until then queries of it are answered 503"
NOT_BUILT = (
    "is not built yet in all partitions: workers of the role project build it; until then queries "
    "of it are answered 503"
)


async def check_view_builds(
    domain: Domain[Any], views: ViewStore, report: CheckReport
) -> dict[str, ViewComparison]:
    """Find views that project would not build; return comparisons with what queries would read."""
    known = await views.builds()
    comparisons: dict[str, ViewComparison] = {}
    for view in domain.views:
        builds = known.get(view.name, ViewBuilds())
        read = builds.read_by(view.shape)
        if read and not read.stale:
            comparisons[view.name] = ViewComparison(view, read, views)
        elif not read and (known or report.stored):
            _check_build(view, builds, report)
    for name in sorted(known.keys() - {view.name for view in domain.views}):
        report.note(f"view {name} is kept in the store, but not declared: nothing updates it")
    return comparisons


def _check_build(view: View[Any], builds: ViewBuilds, report: CheckReport) -> None:
    """Judge a view of which queries have no build to read, as project does."""
    known = [build for build in builds if build]
    versions = [build.shape.version for build in known]
    if any(build.shape == view.shape for build in known):
        report.note(f"view {view.name}, version {view.version}, {NOT_BUILT}")
    elif view.version in versions:
        detail = f"its rows have another shape, and version {view.version} as before"
        advice = f"raise `version` to {max(versions) + 1}, and it is built anew"
        report.add(Finding(Kind.VIEW_SHAPE, _where(view), detail, advice))
    elif versions and max(versions) > view.version:
        detail = f"version {view.version} is below {max(versions)}, of which there is a build"
        advice = f"keep version {max(versions)}, or raise it to {max(versions) + 1}"
        report.add(Finding(Kind.VIEW_VERSION, _where(view), detail, advice))
    else:
        report.note(f"view {view.name}, version {view.version}, {BUILT_ANEW}")


def _where(view: View[Any]) -> str:
    place = place_of(view.project)
    return f"view {view.name}" + (f" ({place})" if place else "")


async def compare_rows(
    comparison: ViewComparison, report: CheckReport, sample: set[str] | None
) -> None:
    """Compare the rows of a live build with the folded ones."""
    await comparison.read(sample)
    async for difference in comparison.differences():
        _add(comparison.view, difference, report)
    report.rows += comparison.rows
    for reason, count in comparison.unjudged.items():
        report.note(f"{reason} were not compared", count)


def _add(view: View[Any], difference: Difference, report: CheckReport) -> None:
    kind = "view" if difference.table == view.name else "totals"
    where = f"{kind} {difference.table}"
    if place := place_of(view.project):
        where += f" ({place})"
    advice = (
        f"if its functions were changed, raise `version` to {view.version + 1}; if not, rows were "
        "altered: see `eventfleet audit`"
    )
    detail = f"{difference.where} {difference.fault}"
    place_of_first = difference.aggregate_id, 0
    found = Finding(Kind.VIEW_BUILD, where, detail, advice, 1, "rows", *place_of_first)
    report.add(found, difference.fault)
