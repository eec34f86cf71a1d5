"""What `eventfleet check` finds in views: changed functions, altered rows, totals, and notes."""

from dataclasses import replace as with_changes
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet import Row, View
from eventfleet.check import CheckReport, Kind
from eventfleet.check.shape_check import ROLLOUT
from eventfleet.snapshot_rules import Rule, SinceSnapshot, after, every
from tests.mistakes.parcels import (
    HARMLESS,
    Labelled,
    LabelRow,
    OwnerTotal,
    ParcelRow,
    Returned,
    Weighed,
    add,
    before,
    label_view,
    owners,
    parcel_view,
    project_parcel,
)
from tests.simulation.in_memory_servers import START
from tests.unit.check_fixture import CheckFixture, bills, found, only


@pytest.fixture
async def fleet() -> CheckFixture:
    fleet = CheckFixture(before())
    await fleet.work_on_parcels()
    return fleet


async def check(fleet: CheckFixture, view: View[Any], sample: int | None = None) -> CheckReport:
    """Check with a view in place of the one of its name."""
    others = [each for each in fleet.domain.views if each.name != view.name]
    fleet.change(views=[view, *others])
    return await fleet.check(sample)


# Functions that were changed without a version


def project_pounds(row: ParcelRow | None, event: Any) -> ParcelRow | None:
    if row and isinstance(event.data, Weighed):
        return replace(row, grams=event.data.grams // 454)
    return project_parcel(row, event)


@pytest.mark.parametrize("sample", [None, 1])
async def test_a_changed_project(fleet: CheckFixture, sample: int | None) -> None:
    changed = with_changes(parcel_view, project=project_pounds, totals=[owners])
    report = await check(fleet, changed, sample)
    assert {*report.counts} == {Kind.VIEW_BUILD}
    finding = next(each for each in report.findings if each.where.startswith("view parcels"))
    assert "differs from the fold of its events in `grams`" in finding.detail
    assert "raise `version` to 3" in finding.advice
    assert finding.count == (1 if sample else 2)
    assert finding.aggregate_id in ("p-1", "p-2")
    assert "test_check_views.py:" in finding.where
    assert (await check(fleet, with_changes(changed, version=3))).clean


async def test_a_changed_key(fleet: CheckFixture) -> None:
    def key(event: Any) -> str | None:
        return event.data.label.upper() if isinstance(event.data, Labelled) else None

    report = await check(fleet, with_changes(label_view, key=key))
    details = {each.detail: each.count for each in found(report, Kind.VIEW_BUILD)}
    assert details == {
        "row 'FRONT' is missing": 2,
        "row 'front' is stored, but does not follow from the events": 2,
    }


async def test_changed_totals(fleet: CheckFixture) -> None:
    def add_twice(total: OwnerTotal, row: Any) -> OwnerTotal:
        return add(add(total, row), row)

    changed = with_changes(parcel_view, totals=[with_changes(owners, add=add_twice)])
    finding = only(await check(fleet, changed), Kind.VIEW_BUILD)
    assert finding.where.startswith("totals owners")
    assert "in `grams`, `parcels`" in finding.detail


async def test_rows_that_are_not_projected_yet_are_not_compared(fleet: CheckFixture) -> None:
    await fleet.produce("late", aggregate_id="p-1", type="Weighed", data={"grams": 7})
    await fleet.work("append", "snapshot", "relay")
    report = await fleet.check()
    assert report.clean, report.findings
    assert report.rows == 5


async def test_rows_that_are_ahead_of_the_noted_progress_are_not_compared(
    fleet: CheckFixture,
) -> None:
    builds = fleet.memory.views._builds
    live = builds["parcels"].live
    assert live
    noted = live.partitions[0]
    assert noted.point
    point = noted.point._replace(offset=noted.point.offset - 1)
    builds["parcels"] = builds["parcels"]._replace(
        live=live._replace(partitions={0: noted._replace(point=point)})
    )
    report = await fleet.check()
    assert report.clean, report.findings
    assert report.notes["rows of views that later events change were not compared"] == 2


# Functions that raise, or return what they must not


async def test_a_merge_that_raises(fleet: CheckFixture) -> None:
    def raising(one: OwnerTotal, other: OwnerTotal) -> OwnerTotal:
        raise OverflowError("too much")

    changed = with_changes(parcel_view, version=3, totals=[with_changes(owners, merge=raising)])
    finding = only(await check(fleet, changed), Kind.VIEW)
    assert finding.where == "totals owners"
    assert finding.consequence == "queries of these totals fail"
    assert "test_check_views.py:" in finding.detail


async def test_totals_that_overflow_over_many_aggregates(fleet: CheckFixture) -> None:
    half = 2**62

    def large(row: ParcelRow | None, event: Any) -> ParcelRow | None:
        made = project_parcel(row, event)
        return replace(made, grams=half) if made and isinstance(event.data, Weighed) else made

    changed = with_changes(parcel_view, version=3, project=large)
    assert "64-bit integer" in only(await check(fleet, changed), Kind.VIEW).detail


class Texts(Row):
    texts: list[str]


async def test_a_row_that_is_modified_in_place(fleet: CheckFixture) -> None:
    def project(row: Texts | None, event: Any) -> Texts:
        made = row or Texts(texts=[])
        made.texts.append("more")
        return Texts(texts=made.texts)

    finding = only(await check(fleet, View("texts", row=Texts, project=project)), Kind.VIEW)
    assert finding.detail.startswith("ModifiedRow: project modifies the row that it is given")


async def test_a_field_of_the_event_that_views_do_not_get(fleet: CheckFixture) -> None:
    view = View("texts", row=LabelRow, project=lambda row, event: LabelRow(text=event.traceparent))
    assert "AttributeError" in only(await check(fleet, view), Kind.VIEW).detail


class Shares(Row):
    by_name: dict[str, float]


@pytest.mark.parametrize(
    ("shares", "fault"),
    [
        ({"half\0": 1.0}, "with a NUL"),
        ({"half": float("inf")}, "JSON has no such number"),
        ({"\ud800": 1.0}, "half of a surrogate pair"),
    ],
)
async def test_a_row_that_no_store_keeps(
    fleet: CheckFixture, shares: dict[str, float], fault: str
) -> None:
    view = View("shares", row=Shares, project=lambda row, event: Shares(by_name=shares))
    assert fault in only(await check(fleet, view), Kind.VIEW).detail


async def test_a_key_that_no_row_has(fleet: CheckFixture) -> None:
    view = with_changes(label_view, version=2, key=lambda event: event.version)
    finding = only(await check(fleet, view), Kind.VIEW)
    assert "the key is 1, not a str" in finding.detail
    assert "test_check_views.py:" in finding.detail


async def test_a_condition_that_is_never_awaited(fleet: CheckFixture) -> None:
    async def wants(event: Any) -> bool:
        return False

    [route] = fleet.domain.routes
    fleet.change(routes=[with_changes(route, when=lambda event: wants(event))])
    finding = only(await fleet.check(), Kind.ROUTE)
    assert "`when` returned coroutine, which always holds" in finding.detail
    assert "test_check_views.py:" in finding.detail


# Snapshot rules


class Shared(Rule):
    needs_clock = True

    def holds(self, since: SinceSnapshot) -> bool:
        return bool(since.version // (since.now.year - START.year) > 1)


@pytest.mark.parametrize(
    "rule", [every(4) | Shared(), every(2) & ~Shared(), Shared() | after(days=1)]
)
async def test_a_part_of_a_snapshot_rule_that_raises(fleet: CheckFixture, rule: Rule) -> None:
    fleet.change(snapshot=rule)
    finding = only(await fleet.check(), Kind.SNAPSHOT_RULE)
    assert finding.detail.startswith("ZeroDivisionError")
    assert "test_check_views.py:" in finding.detail
    assert finding.count == 2


# Notes


async def test_which_role_a_new_schema_is_rolled_out_to_first_is_noted(fleet: CheckFixture) -> None:
    fleet.change(events=[*fleet.domain.events, Returned], upcasters={Weighed: [lambda data: data]})
    report = await fleet.check()
    assert report.clean, report.findings
    assert report.notes == {
        f"event Weighed, schema version 2, is new to the store: {ROLLOUT}": 1,
        f"event Returned, schema version 1, is new to the store: {ROLLOUT}": 1,
    }


async def test_what_a_door_has_registered_is_new_to_the_workers_all_the_same(
    fleet: CheckFixture,
) -> None:
    deployed = fleet.domain
    await fleet.register("append", "snapshot", "relay", "project")
    fleet.change(events=[*deployed.events, Returned], upcasters={Weighed: [lambda data: data]})
    await fleet.register()
    weighed, returned = "event Weighed, schema version 2", "event Returned, schema version 1"
    whom = "append, snapshot, relay, project"
    assert (await fleet.check()).notes == {
        f"{weighed}, is new to {whom}: {ROLLOUT}": 1,
        f"{returned}, is new to {whom}: {ROLLOUT}": 1,
    }
    await fleet.register("append", "snapshot", "project")
    assert (await fleet.check()).notes == {
        f"{weighed}, is new to relay: {ROLLOUT}": 1,
        f"{returned}, is new to relay: {ROLLOUT}": 1,
    }
    await fleet.register("relay")
    assert (await fleet.check()).notes == {}


async def test_a_deployment_that_was_taken_back_is_new_again(fleet: CheckFixture) -> None:
    deployed = fleet.domain
    fleet.change(upcasters={Weighed: [lambda data: data]})
    await fleet.register("append")
    fleet.domain, newer = deployed, fleet.domain
    await fleet.register("append")
    fleet.domain = newer
    [note] = (await fleet.check()).notes
    assert note == f"event Weighed, schema version 2, is new to append: {ROLLOUT}"


async def test_an_event_that_gets_a_field_within_its_version_is_new_to_the_workers(
    fleet: CheckFixture,
) -> None:
    await fleet.register("append")
    fleet.domain = HARMLESS["a new field with a default"](fleet.domain)
    [note] = (await fleet.check()).notes
    assert note.endswith(f", is new to append: {ROLLOUT}")


async def test_views_that_are_built_anew_or_gone_are_noted(fleet: CheckFixture) -> None:
    added = View("texts", row=LabelRow, project=lambda row, event: row)
    fleet.change(views=[with_changes(parcel_view, version=3), added])
    report = await fleet.check()
    assert report.clean, report.findings
    later = "is built by project after the deployment; until then queries of it are answered 503"
    assert report.notes == {
        f"view parcels, version 3, {later}": 1,
        f"view texts, version 1, {later}": 1,
        "view labels is kept in the store, but not declared: nothing updates it": 1,
    }


async def test_the_first_view_of_a_domain_with_events_is_noted() -> None:
    fleet = CheckFixture(with_changes(bills, views=[]))
    first = View("texts", row=LabelRow, project=lambda row, event: row)
    fleet.change(views=[first])
    assert (await fleet.check()).notes == {}
    fleet.change(views=[])
    await fleet.work_on_bills()
    fleet.change(views=[first])
    later = "is built by project after the deployment; until then queries of it are answered 503"
    assert (await fleet.check()).notes == {f"view texts, version 1, {later}": 1}


async def test_a_deployment_that_is_taken_back_is_clean(fleet: CheckFixture) -> None:
    deployed = fleet.domain
    fleet.domain = HARMLESS["other rows in a new version"](deployed)
    await fleet.work("project")
    assert (await fleet.check()).rows == 5
    fleet.domain = deployed
    report = await fleet.check()
    assert report.clean, report.findings
    assert report.rows == 5
