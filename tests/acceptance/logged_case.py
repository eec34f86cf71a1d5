"""One case of a process log, and what queries answer of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet

HEADER = "case:concept:name,concept:name,time:timestamp,by\n"
TYPES = ["open", "check", "check", "sign", "send", "file", "close"]
CASE = "case-1"


def rows(*numbers: int, case: str = CASE) -> str:
    lines = [f"{case},{TYPES[n - 1]},2024-03-0{n}T10:00:00Z,person {n}\n" for n in numbers]
    return HEADER + "".join(lines)


def state(upto: int) -> dict[str, Any]:
    """The state after so many events, counted here."""
    types = TYPES[:upto]
    return {
        "events": upto,
        "last": types[-1],
        "activities": {name: types.count(name) for name in dict.fromkeys(types)},
        "attributes": {"by": f"person {upto}"},
    }


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Seven events of a case, its snapshot at the fifth; then the workers have ended."""
    folder = tmp_path_factory.mktemp("fleet")
    with open_fleet(request, folder, "eventfleet.domains.process_log", partitions=2) as fleet:
        (worker,) = fleet.start("append snapshot relay")
        for some in (rows(1, 2, 3, 4, 5), rows(6, 7), rows(1, 2, case="case-2")):
            fleet.load(some)
            fleet.settle()
        assert worker.stop() == 0
        assert [s["version"] for s in snapshots(fleet, CASE)] == [5]
        yield fleet


def snapshots(fleet: Fleet, case: str) -> list[dict[str, Any]]:
    return list(fleet.snapshots.find({"aggregate_id": case}).sort("version", 1))


def events(fleet: Fleet, *options: str) -> list[Any]:
    return fleet.json_lines("events", "process_log", CASE, *options)
