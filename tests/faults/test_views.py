"""Views whose workers are killed (-9), and that are rebuilt meanwhile, equal a plain fold."""

import time
from pathlib import Path

import pytest

from tests.faults.fleet_supervisor import OrderFleet
from tests.faults.load import EventLoad
from tests.faults.project_fleet import ProjectFleet


def disturbed(
    fleet: OrderFleet, seed: int, events: int, kills: int, rate: int, rebuilding: bool
) -> None:
    disturbances = ProjectFleet(fleet, seed)
    with EventLoad(fleet.kafka.address, rate, events) as load:
        while disturbances.kills < kills or len(load.sent) < events:
            if disturbances.kills < kills:
                disturbances.kill()
            else:
                time.sleep(0.1)
            if rebuilding:
                disturbances.rebuild(to_the_end=False)
                disturbances.look()
        load.stop()
    disturbances.supervisor.wait_until_owned()
    if rebuilding:
        disturbances.rebuild(to_the_end=True)
    numbers = disturbances.check()
    print(
        f"\nviews: {disturbances.kills} kills in {numbers[0]:,} events, {numbers[1]:,} rows; "
        f"{disturbances.looks} looks"
    )


@pytest.mark.parametrize(
    ("kills", "events", "rate"),
    [(2, 1_500, 300), pytest.param(50, 200_000, 1_000, marks=pytest.mark.faults)],
)
def test_a_view_whose_workers_are_killed_equals_an_undisturbed_one(
    kafka: str, mongo_url: str, tmp_path: Path, kills: int, events: int, rate: int
) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        disturbed(fleet, 1, events, kills, rate, rebuilding=False)


@pytest.mark.parametrize(
    ("kills", "events", "rate"),
    [(2, 1_500, 300), pytest.param(20, 40_000, 300, marks=pytest.mark.faults)],
)
def test_a_view_that_is_rebuilt_under_kills_loses_and_doubles_nothing(
    kafka: str, mongo_url: str, tmp_path: Path, kills: int, events: int, rate: int
) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        disturbed(fleet, 2, events, kills, rate, rebuilding=True)
