"""The invariants hold in every schedule; SCHEDULES=200000 looks longer."""

from collections import Counter
from functools import cache

import pytest

from tests.simulation.schedule import run, scaled
from tests.simulation.world import RoleScenario

ALL_ROLES = ("append", "snapshot", "relay")

SCENARIOS = {
    "append, loaded events": (400, RoleScenario(("append",), failures=0.95)),
    "append, loaded again and again": (
        2850,
        RoleScenario(("append",), events=14, again=0.7, failures=0.95),
    ),
    "append, events that follow one another": (
        1000,
        RoleScenario(("append",), marked=True, failures=0.95),
    ),
    "append, synchronous puts": (1550, RoleScenario(("append",), puts=True, failures=0.7)),
    "snapshot": (350, RoleScenario(("snapshot",), fed=True)),
    "snapshot, with queries": (350, RoleScenario(("snapshot",), fed=True, queries=3)),
    "relay": (200, RoleScenario(("relay",), fed=True, repeats=False)),
    "snapshot, which parks": (300, RoleScenario(("snapshot",), fed=True, poison=0.3)),
    "snapshot, which parks, late requests": (
        100,
        RoleScenario(("snapshot",), fed=True, poison=0.3, late=0.1),
    ),
    "relay, which parks": (
        200,
        RoleScenario(("relay",), fed=True, repeats=False, poison=0.3),
    ),
    "relay, of whose topics one refuses records": (
        200,
        RoleScenario(("relay",), fed=True, repeats=False, poison=0.3, too_large=True),
    ),
    "all three, with synchronous puts and parking": (
        100,
        RoleScenario(ALL_ROLES, puts=True, poison=0.2),
    ),
    "all three, with queries": (
        650,
        RoleScenario(ALL_ROLES, marked=True, queries=2, failures=0.95),
    ),
    "all three, with synchronous puts": (650, RoleScenario(ALL_ROLES, puts=True)),
    "append, late requests": (
        300,
        RoleScenario(("append",), events=14, failures=0.95, late=0.1),
    ),
    "append, synchronous puts, late requests": (
        200,
        RoleScenario(("append",), puts=True, late=0.1),
    ),
    "snapshot, late requests": (
        150,
        RoleScenario(("snapshot",), fed=True, events=14, late=0.1),
    ),
    "relay, late requests": (
        150,
        RoleScenario(("relay",), fed=True, events=14, repeats=False, late=0.1),
    ),
    "relay, which parks, late requests": (
        150,
        RoleScenario(("relay",), fed=True, events=14, repeats=False, poison=0.3, late=0.1),
    ),
    "all three, late requests": (
        150,
        RoleScenario(ALL_ROLES, marked=True, queries=2, late=0.1),
    ),
}


FAULTS = {
    "a reply with two errors",
    "a taken key that no read shows",
    "a transaction times out",
    "a clock steps back",
    "a sweep beside the roles",
    "blocked by a dead one's transaction",
    "no majority in time",
    "one shard fails over, and another has writes under way",
    "the log is truncated",
    "unread records are removed",
    "writes are rolled back",
}
LATE = {
    "a late InitProducerId",
    "a late AddPartitionsToTxn",
    "a late Produce",
    "a late AddOffsetsToTxn",
    "a late TxnOffsetCommit",
    "a late EndTxn",
}


@cache
def faults_in(name: str) -> Counter[str]:
    """Runs a scenario; in how many of its schedules each fault occurred."""
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


def test_the_normal_run_has_ten_thousand_schedules() -> None:
    assert sum(schedules for schedules, _ in SCENARIOS.values()) == 10_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_invariants_hold(name: str) -> None:
    faults_in(name)


def test_each_fault_occurs_in_one_of_twenty_schedules() -> None:
    occurred = sum(map(faults_in, SCENARIOS), Counter[str]())
    schedules = sum(scaled(schedules) for schedules, _ in SCENARIOS.values())
    assert {fault for fault in FAULTS if occurred[fault] >= schedules / 20} == FAULTS, occurred


def test_each_request_is_late_in_one_of_twenty_of_those_schedules() -> None:
    late = {name: count for name, (count, scenario) in SCENARIOS.items() if scenario.late}
    occurred = sum(map(faults_in, late), Counter[str]())
    schedules = sum(map(scaled, late.values()))
    assert {request for request in LATE if occurred[request] >= schedules / 20} == LATE, occurred
