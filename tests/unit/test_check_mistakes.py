"""What `eventfleet check` finds of one deployment's changes: ten mistakes, and no harmless one."""

import pytest

from eventfleet.check import Kind
from tests.mistakes.parcels import HARMLESS, MISSING, MISTAKES, before
from tests.unit.check_fixture import CheckFixture

WEIGHED = "p-1", 2
FOUND: dict[str, tuple[Kind, str, str, tuple[str, int]]] = {
    "project raises": (Kind.VIEW, "view parcels, event Weighed", "no such scale", WEIGHED),
    "key raises": (Kind.VIEW, "view labels, event Registered", "AttributeError", ("p-1", 1)),
    "add raises": (Kind.VIEW, "view parcels, event Registered", "ZeroDivision", ("p-1", 1)),
    "row can't be stored": (Kind.VIEW, "view parcels, event Weighed", "64-bit integer", WEIGHED),
    "project returns no row": (
        Kind.VIEW,
        "view parcels, event Delivered",
        "not a ParcelRow",
        ("p-1", 4),
    ),
    "rows changed without a version": (Kind.VIEW_SHAPE, "view parcels", "shape", ("", 0)),
    "view version lowered": (Kind.VIEW_VERSION, "view parcels", "is below 2", ("", 0)),
    "route raises": (Kind.ROUTE, "carriers.heavy, event Registered", "AttributeError", ("p-1", 1)),
    "topic of a route is missing": (Kind.TOPIC, MISSING, "does not exist", ("", 0)),
    "snapshot rule raises": (Kind.SNAPSHOT_RULE, "snapshot rule", "no such share", WEIGHED),
}


@pytest.fixture
async def fleet() -> CheckFixture:
    """A fleet that has done all its work, before the change."""
    fleet = CheckFixture(before())
    await fleet.work_on_parcels()
    report = await fleet.check()
    assert report.clean, report.findings
    assert report.rows == 5
    return fleet


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_found(fleet: CheckFixture, name: str) -> None:
    fleet.domain = MISTAKES[name](fleet.domain)
    report = await fleet.check()
    kind, where, detail, place = FOUND[name]
    assert {*report.counts} == {kind}, report.findings
    finding = next(each for each in report.findings if where in each.where)
    assert detail in finding.detail
    assert (finding.aggregate_id, finding.version) == place
    assert "parcels.py:" in str(finding) or kind is Kind.TOPIC
    assert finding.consequence


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_harmless_change_is_clean(fleet: CheckFixture, name: str) -> None:
    fleet.domain = HARMLESS[name](fleet.domain)
    report = await fleet.check()
    assert report.clean, report.findings
