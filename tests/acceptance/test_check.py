"""`eventfleet check`: clean after work, and each changed code or setting is named."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventfleet.runtime.settings import PREFIX
from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet, servers_only

HEADER = "case:concept:name,concept:name,time:timestamp,grams\n"
CASES, WEIGHINGS = 6, 4
MODULE = """
from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State, every


class Weighed(Event):
    grams: int


class Parcel(State):
    grams: int = 0


def evolve(parcel, event):
    return replace(parcel, grams=parcel.grams + event.grams)


boxes = Domain(
    "boxes",
    state=Parcel,
    evolve=evolve,
    events=[Weighed],
    snapshot=every(2),
    routes=[Route("boxes.heavy", when=lambda event: event.data.grams > 2)],
)
"""


def rows() -> str:
    lines = [
        f"box-{case},Weighed,2024-03-0{number}T10:00:00Z,{number}\n"
        for number in range(1, WEIGHINGS + 1)
        for case in range(CASES)
    ]
    return HEADER + "".join(lines)


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet that has done its work and has ended."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "boxes.py").write_text(MODULE)
    with open_fleet(request, folder, "boxes", partitions=2) as fleet:
        (worker,) = fleet.start("append snapshot relay")
        fleet.load(rows())
        fleet.settle()
        assert worker.stop() == 0
        yield fleet


@pytest.fixture
def module(fleet: Fleet) -> Iterator[Path]:
    """The domain's module, to be changed."""
    yield fleet.folder / "boxes.py"
    (fleet.folder / "boxes.py").write_text(MODULE)


def findings(fleet: Fleet, *options: str, status: int = 1) -> dict[str, Any]:
    """The findings, by kind and place."""
    report = fleet.json("check", *options, status=status)
    return {f"{each['kind']} {each['where']}": each for each in report["findings"]}


def test_what_nobody_has_changed_is_clean(fleet: Fleet) -> None:
    report = fleet.json("check")
    assert report["clean"]
    assert (report["events"], report["aggregates"]) == (CASES * WEIGHINGS, CASES)
    assert report["snapshots"] >= CASES
    assert report["notes"] == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("parcel.grams + event.grams", "parcel.grams + 1", "snapshot state Parcel"),
        (
            "    grams: int = 0",
            "    grams: int = 0\n    seals: int = 0",
            "state-shape state Parcel",
        ),
        ("    grams: int\n", "    grams: int\n    scale: str\n", "event event Weighed"),
        ("    grams: int\n", "    grams: int\n    scale: str\n", "event-shape event Weighed"),
        ("class Weighed(Event):", "class Gone(Event):", "event-type event Weighed"),
    ],
)
def test_changed_code_is_found(
    fleet: Fleet, module: Path, old: str, new: str, expected: str
) -> None:
    changed = MODULE.replace(old, new).replace(
        "[Weighed]", "[Gone]" if "Gone" in new else "[Weighed]"
    )
    module.write_text(changed)
    found = findings(fleet)
    assert [each for each in found if each.startswith(expected)], found


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("GROUP_PREFIX", "nobody", "group group nobody.boxes.append"),
        ("PARTITIONS", "3", "partitions stored events"),
    ],
)
def test_a_wrong_setting_is_found(fleet: Fleet, setting: str, value: str, expected: str) -> None:
    with in_place(fleet, {setting: value}):
        assert expected in findings(fleet)


@servers_only("a file's stores have no name")
def test_another_database_is_found(fleet: Fleet) -> None:
    with in_place(fleet, {"MONGO_DATABASE": "t_nowhere"}):
        assert "store database t_nowhere" in findings(fleet)


@contextmanager
def in_place(fleet: Fleet, settings: Mapping[str, str]) -> Iterator[None]:
    """The fleet's commands have these settings in place of its own."""
    before = fleet.environment
    fleet.environment = before | {PREFIX + name: value for name, value in settings.items()}
    try:
        yield
    finally:
        fleet.environment = before


def test_exported_events_are_checked_without_the_fleet_s_data(fleet: Fleet, module: Path) -> None:
    file = fleet.folder / "boxes.jsonl"
    file.write_text(fleet.run("events", "boxes", "--all", "--json"))
    with in_place(fleet, fleet.nowhere):
        report = fleet.json("check", "--events", str(file))
        assert (report["clean"], report["events"]) == (True, CASES * WEIGHINGS)
        module.write_text(MODULE.replace("    grams: int\n", "    grams: str\n"))
        [found] = findings(fleet, "--events", str(file)).values()
        assert (found["kind"], found["count"]) == ("event", CASES * WEIGHINGS)
