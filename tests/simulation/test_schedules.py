"""The invariants hold in every schedule; SCHEDULES=200000 (of all tests together) looks longer."""

import pytest

from tests.simulation.schedule import run, scaled
from tests.simulation.world import RoleScenario

ALL_ROLES = ("append", "snapshot", "relay")

SCENARIOS = {
    "append, loaded events": (400, RoleScenario(("append",))),
    "append, events that follow one another": (400, RoleScenario(("append",), marked=True)),
    "append, synchronous puts": (500, RoleScenario(("append",), puts=True)),
    "snapshot": (150, RoleScenario(("snapshot",), fed=True)),
    "snapshot, with queries": (150, RoleScenario(("snapshot",), fed=True, queries=3)),
    "relay": (100, RoleScenario(("relay",), fed=True, repeats=False)),
    "all three, with queries": (150, RoleScenario(ALL_ROLES, marked=True, queries=2)),
    "all three, with synchronous puts": (150, RoleScenario(ALL_ROLES, puts=True)),
}


def test_the_normal_run_has_two_thousand_schedules() -> None:
    assert sum(schedules for schedules, _ in SCENARIOS.values()) == 2000


@pytest.mark.parametrize("name", SCENARIOS)
def test_invariants_hold(name: str) -> None:
    schedules, scenario = SCENARIOS[name]
    run(scenario, range(scaled(schedules)))
