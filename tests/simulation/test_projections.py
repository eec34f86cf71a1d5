"""Views keep their promises in every schedule; SCHEDULES=100000 looks longer."""

from collections import Counter
from functools import cache

import pytest

from tests.simulation.projection_scenarios import SCENARIOS
from tests.simulation.projection_schedule import run
from tests.simulation.schedule import scaled


def test_the_normal_run_has_4600_schedules() -> None:
    assert sum(schedules for schedules, _ in SCENARIOS.values()) == 4_600


FAULTS = {
    "several owners",
    "an owner is killed",
    "an owner stands still",
    "a rebuild",
    "a flip",
    "the offset is set back",
    "a day passes",
    "a redrive",
    "a discard",
}


@cache
def faults_in(name: str) -> Counter[str]:
    """Runs a scenario; in how many of its schedules each fault occurred."""
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_are_kept(name: str) -> None:
    faults_in(name)


def test_each_fault_occurs_in_one_of_twenty_schedules() -> None:
    occurred = sum(map(faults_in, SCENARIOS), Counter[str]())
    schedules = sum(scaled(schedules) for schedules, _ in SCENARIOS.values())
    assert {fault for fault in FAULTS if occurred[fault] >= schedules / 20} == FAULTS, occurred
