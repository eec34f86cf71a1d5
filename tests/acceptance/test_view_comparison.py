"""`eventfleet check` and `audit` on the views of a fleet: rows compared with their events."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.mistakes.parcels import story

PARCELS = [f"p-{number}" for number in range(5)]
ROWS = 12
"""A row of each parcel in two views, and a total in each of two partitions."""
HEADER = "case:concept:name,concept:name,time:timestamp,owner,grams,label,text\n"


def rows() -> str:
    lines = []
    for parcel in PARCELS:
        for number, (kind, data) in enumerate(story(parcel), 1):
            fields = [str(data.get(name, "")) for name in ("owner", "grams", "label", "text")]
            lines.append(f"{parcel},{kind},2024-03-0{number}T10:00:00Z,{','.join(fields)}\n")
    return HEADER + "".join(lines)


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet that has projected parcels, and has ended."""
    folder = tmp_path_factory.mktemp("fleet")
    opened = open_fleet(request, folder, "tests.mistakes.parcels", partitions=2)
    opened.environment["PYTHONPATH"] = str(ROOT)
    with opened as fleet:
        (worker,) = fleet.start("append snapshot relay project")
        fleet.load(rows())
        fleet.settle("append", "snapshot", "relay", "project")
        wait_for(lambda: fleet.json_lines("audit")[0]["rows"] == ROWS, "the noted progress")
        assert worker.stop() == 0
        yield fleet


def test_what_nobody_has_altered_is_clean(fleet: Fleet) -> None:
    text, report = fleet.audit()
    assert report["clean"], text
    assert (report["rows"], report["unjudged"]) == (ROWS, {})
    checked = fleet.json("check")
    assert (checked["clean"], checked["rows"], checked["notes"]) == (True, ROWS, {})


# What is altered by hand, each undone at the end


@contextmanager
def row_altered(fleet: Fleet) -> Iterator[None]:
    rows = fleet.view_rows("parcels", "parcels")
    rows.update_one({"_id": "p-1\0"}, {"$set": {"row.grams": 7}})
    yield
    rows.update_one({"_id": "p-1\0"}, {"$set": {"row.grams": 1_500}})


@contextmanager
def row_deleted(fleet: Fleet) -> Iterator[None]:
    rows = fleet.view_rows("labels", "labels")
    row = rows.find_one_and_delete({"_id": "p-1\0front"})
    yield
    rows.insert_one(row)


@contextmanager
def total_altered(fleet: Fleet) -> Iterator[None]:
    totals = fleet.view_rows("parcels", "owners")
    total = totals.find_one()
    totals.update_one({"_id": total["_id"]}, {"$inc": {"row.parcels": 1}})
    yield
    totals.replace_one({"_id": total["_id"]}, total)


@contextmanager
def event_marked(fleet: Fleet) -> Iterator[None]:
    event = {"aggregate_id": "p-1", "version": 3}
    fleet.events.update_one(event, {"$set": {"discarded": True}})
    yield
    fleet.events.update_one(event, {"$unset": {"discarded": ""}})


ALTERED = {
    row_altered: "view parcels: the row differs from the fold of its events in `grams`",
    row_deleted: "view labels: row 'front' is missing",
    total_altered: "differs from the fold of its events in `parcels`",
    event_marked: "is marked as discarded, and no operator has decided so",
}


@pytest.mark.parametrize("alter", ALTERED)
def test_the_audit_names_what_was_altered(fleet: Fleet, alter: Any) -> None:
    with alter(fleet):
        text, report = fleet.audit()
    faults = [each["fault"] for each in report["violations"]]
    assert any(ALTERED[alter] in fault for fault in faults), text
    others = [] if alter is total_altered else ["p-1"]
    assert {each["aggregate_id"] for each in report["violations"]} <= {"", *others}


def test_a_part_of_the_views_can_be_audited(fleet: Fleet) -> None:
    with row_altered(fleet):
        assert fleet.json("audit", "--views", "labels")["clean"]
        assert fleet.json("audit", "--sample", "1")["rows"] == 2
    assert (
        "'boxes' is no view; known: labels, parcels"
        in fleet.invoke("audit", "--views", "boxes").output
    )


# Check


@pytest.mark.parametrize("name", ["add raises", "rows changed without a version"])
def test_a_mistake_is_found_before_its_deployment(fleet: Fleet, name: str) -> None:
    fleet.environment["PARCELS_CHANGE"] = name
    try:
        report = fleet.json("check", status=1)
    finally:
        del fleet.environment["PARCELS_CHANGE"]
    [finding] = report["findings"]
    assert "parcels.py:" in finding["where"] + finding["detail"]
    assert finding["consequence"].startswith("project ")
