"""A seed says all that happens: a schedule that has failed once fails again."""

from typing import Any

import pytest

from tests.simulation import (
    marker_scenarios,
    projection_scenarios,
    test_channels,
    test_fleet,
    test_publications,
    test_schedules,
)
from tests.simulation.channel_schedule import ChannelSchedule
from tests.simulation.fleet_schedule import FleetSchedule
from tests.simulation.marker_schedule import MarkerSchedule
from tests.simulation.projection_schedule import ProjectionSchedule
from tests.simulation.publication_schedule import PublicationSchedule
from tests.simulation.schedule import RoleSchedule
from tests.simulation.story import tell

SIMULATIONS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "channels": (ChannelSchedule, test_channels.SCENARIOS),
    "fleet": (FleetSchedule, test_fleet.SCENARIOS),
    "marker": (MarkerSchedule, marker_scenarios.SCENARIOS),
    "projections": (ProjectionSchedule, projection_scenarios.SCENARIOS),
    "publications": (PublicationSchedule, test_publications.SCENARIOS),
    "roles": (RoleSchedule, test_schedules.SCENARIOS),
}


def _story(schedule: Any) -> str:
    schedule.run()
    return tell(schedule.scheduler.trace)


@pytest.mark.parametrize("name", SIMULATIONS)
def test_a_seed_says_all_that_happens(name: str) -> None:
    schedule, scenarios = SIMULATIONS[name]
    differ = [
        f"{title}, seed {seed}"
        for title, (_, scenario) in scenarios.items()
        for seed in range(10)
        if _story(schedule(scenario, seed)) != _story(schedule(scenario, seed))
    ]
    assert differ == []
