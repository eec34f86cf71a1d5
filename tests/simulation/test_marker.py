"""The marker keeps its promises in every schedule; SCHEDULES=200000 looks longer."""

from collections import Counter
from functools import cache

import pytest

from tests.simulation.marker_scenarios import SCENARIOS
from tests.simulation.marker_schedule import run, scaled


def test_the_normal_run_has_ten_thousand_schedules() -> None:
    assert sum(schedules for schedules, _ in SCENARIOS.values()) == 10_000


FAULTS = {"a clock steps back", "several owners", "several owners beside a loss of markers"}
OF_PARKING = {"a redrive", "a discard"}


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


def test_redrives_and_discards_occur_in_one_of_ten_schedules_that_park() -> None:
    parking = [name for name in SCENARIOS if name.startswith("append parks")]
    occurred = sum(map(faults_in, parking), Counter[str]())
    schedules = sum(scaled(SCENARIOS[name][0]) for name in parking)
    assert {fault for fault in OF_PARKING if occurred[fault] >= schedules / 10} == OF_PARKING


def test_who_decides_stands_still_in_half_of_the_schedules_where_that_happens() -> None:
    name = "who decides the topic's commands stands still"
    occurred = faults_in(name)["who decides stands still with commands in hand"]
    assert occurred >= scaled(SCENARIOS[name][0]) / 2
