"""A fleet of a synchronous domain keeps its promises; SCHEDULES=200000 looks longer."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation import fleets_without_rules, roles_without_rules
from tests.simulation.fleet_schedule import run, scaled, violations
from tests.simulation.fleet_world import FleetParts, FleetScenario

ALL_ROLES = ("append", "command", "snapshot")

STANDS_STILL = "command stands still with commands in hand"
LAGS = "primaries are alone for long"

SCENARIOS = {
    "services, and the roles append and command": (3420, FleetScenario()),
    "three services": (2600, FleetScenario(services=3, commands=12, roles=("append", "command"))),
    "with snapshots": (3000, FleetScenario(roles=ALL_ROLES, violence=0.01)),
    "late requests": (500, FleetScenario(roles=ALL_ROLES, violence=0.01, late=0.1)),
    "late requests of undisturbed owners": (
        200,
        FleetScenario(roles=ALL_ROLES, violence=0.0, failures=0.0, late=0.1),
    ),
    STANDS_STILL: (80, FleetScenario(hesitates=0.3)),
    LAGS: (200, FleetScenario(failures=1.0, longest_lag=1000, elections=0.0)),
}
FAULTS = {
    "a chunk is not delivered",
    "a command expects another version",
    "a service is killed",
    "a transaction times out",
    "a worker of append is killed",
    "a worker of append stands still beside its successor",
    "a worker of command is killed",
    "a worker of command stands still beside its successor",
    "blocked by a dead one's transaction",
    "no majority in time",
    "writes are rolled back",
}

# A rule, what stands in for the part that has it, and how it is missed.
RULES = {
    "the unique index has the last word on a number": (
        FleetParts(commander=fleets_without_rules.TakesTakenNumbers),
        {"accepted but not stored", "accepted again", "gap", "snapshot is not the fold"},
    ),
    "the events of a command are put together": (
        FleetParts(commander=fleets_without_rules.PutsOneByOne),
        {"half a command"},
    ),
    "the store is read before a cached state is taken for the latest": (
        FleetParts(querier=fleets_without_rules.TrustsItsCache),
        {"rejected for what was not there", "stuck"},
    ),
    "only the latest state rejects a command": (
        FleetParts(manager=fleets_without_rules.RejectsByItsCache),
        {"rejected for what was not there"},
    ),
    "a command is accepted once its events are stored": (
        FleetParts(manager=fleets_without_rules.AnswersBeforeItPuts),
        {"accepted again", "accepted but not stored"},
    ),
    "a state is kept only with events that are stored": (
        FleetParts(manager=fleets_without_rules.KeepsWhatIsNotStored),
        {
            *("gap", "snapshot is not the fold", "rejected for what was not there", "overdrawn"),
            "stuck",  # snapshot waits for the events of a snapshot that were never stored
        },
    ),
    "what was never produced is swept": (
        FleetParts(append=fleets_without_rules.NeverSweeps),
        {"stuck"},
    ),
    "an owner sees that a chunk was not delivered": (
        FleetParts(owner=fleets_without_rules.TakesAnyChunk),
        {"not emitted", "not one reply for each command", "stuck"},
    ),
    "a put is acknowledged when a majority has it": (
        FleetParts(events=roles_without_rules.AcknowledgesAlone),
        {
            *("accepted but not stored", "accepted again", "emitted otherwise than stored"),
            "error",
            *("gap", "snapshot is not the fold", "emitted out of order"),
            "stuck",  # snapshot waits for an event that was emitted and lost
        },
    ),
}
VERSION_RULES = {
    "a command is decided on the version that it expects": (
        FleetParts(manager=fleets_without_rules.DecidesOnAnyVersion),
        {"accepted on another version"},
    ),
    "a command that was beaten is held to its version": (
        FleetParts(manager=fleets_without_rules.ForgetsVersionsWhenBeaten),
        {"accepted on another version"},
    ),
}
OWNER_RULES = {
    "who puts is the owner of the command's partition": FleetParts(
        command_role=fleets_without_rules.AsksForNoOwner
    ),
    "the owner is asked for between a decision and its put": FleetParts(
        manager=fleets_without_rules.AsksBeforeItDecides
    ),
}

# On a slow host thousands of schedules take longer than other tests may.
pytestmark = pytest.mark.timeout(1800)


@cache
def faults_in(name: str) -> Counter[str]:
    """Runs a scenario; in how many of its schedules each fault occurred."""
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


def test_the_normal_run_has_ten_thousand_schedules() -> None:
    assert sum(schedules for schedules, _ in SCENARIOS.values()) == 10_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_are_kept(name: str) -> None:
    faults_in(name)


def test_each_fault_occurs_in_one_of_twenty_schedules() -> None:
    occurred = sum(map(faults_in, SCENARIOS), Counter[str]())
    schedules = sum(scaled(schedules) for schedules, _ in SCENARIOS.values())
    assert {fault for fault in FAULTS if occurred[fault] >= schedules / 20} == FAULTS, occurred


def test_command_stands_still_in_half_of_the_schedules_where_it_may() -> None:
    occurred = faults_in(STANDS_STILL)["a worker of command stands still with commands in hand"]
    assert occurred >= scaled(SCENARIOS[STANDS_STILL][0]) / 2


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str) -> None:
    parts, kinds = RULES[rule]
    _assert_broken(FleetScenario(roles=ALL_ROLES, parts=parts, expecting=0.0), kinds)


@pytest.mark.parametrize("rule", VERSION_RULES)
def test_without_the_rule_an_expected_version_is_missed(rule: str) -> None:
    parts, kinds = VERSION_RULES[rule]
    _assert_broken(FleetScenario(parts=parts), kinds)


@pytest.mark.parametrize("rule", OWNER_RULES)
def test_without_the_rule_a_former_owner_stores_what_was_refused(rule: str) -> None:
    scenario = replace(SCENARIOS[STANDS_STILL][1], parts=OWNER_RULES[rule])
    _assert_broken(scenario, {"refused but stored"}, schedules=300)


def test_where_a_version_that_cannot_be_read_yet_is_anothers_the_refused_is_stored() -> None:
    parts = FleetParts(manager=fleets_without_rules.TakesTheUnseenForAnothers)
    scenario = replace(SCENARIOS[LAGS][1], parts=parts)
    _assert_broken(scenario, {"refused but stored"}, schedules=300)


def _assert_broken(scenario: FleetScenario, kinds: set[str], *, schedules: int = 1000) -> None:
    first = next(violations(scenario, range(schedules)), None)
    assert first is not None, f"nothing broke in {schedules} schedules"
    assert first.kind in kinds, first
