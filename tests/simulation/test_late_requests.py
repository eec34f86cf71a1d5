"""Each rule about late requests is needed: without it some schedule breaks a promise, and which."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.simulation import (
    fleet_schedule,
    projection_schedule,
    schedule,
    test_fleet,
    test_projections,
)
from tests.simulation import writers_without_rules as without
from tests.simulation.checker import BrokenInvariant
from tests.simulation.fleet_world import FleetParts
from tests.simulation.projection_world import ProjectionParts
from tests.simulation.simulated_writer import SimulatedWriter
from tests.simulation.world import RoleParts, RoleScenario

SEEDS = range(1000)
APPEND = RoleScenario(("append",), events=20, failures=0.0, repeats=False, late=0.2)
PUTS = RoleScenario(("append",), puts=True, failures=0.0, late=0.2)
SNAPSHOT = RoleScenario(("snapshot",), fed=True, events=14, late=0.2)
RELAY = RoleScenario(("relay",), fed=True, events=14, repeats=False, late=0.2)
PARKING_RELAY = replace(RELAY, poison=0.3)
RELAYED = {"relayed twice", "relayed out of order", "not relayed"}
EMITTED = {"emitted twice", "emitted out of order", "not emitted"}
REPLIED = {"not one reply for each command"}

# A rule, the writer without it, and the roles that show it.
ROLE_RULES: dict[str, tuple[type[SimulatedWriter], list[tuple[RoleScenario, set[str]]]]] = {
    "an EndTxn is not sent again within its epoch": (
        without.RepeatsEndTxn,
        [(APPEND, EMITTED), (PUTS, EMITTED), (RELAY, RELAYED), (PARKING_RELAY, RELAYED)],
    ),
    "a TxnOffsetCommit is not sent again within its epoch": (
        without.RepeatsTxnOffsetCommit,
        [(RELAY, RELAYED)],
    ),
    "a new epoch comes after a request without an answer": (
        without.KeepsItsEpoch,
        [
            (APPEND, EMITTED),
            (PUTS, EMITTED),
            (SNAPSHOT, {"topic is behind"}),
            (RELAY, RELAYED),
            (PARKING_RELAY, RELAYED),
        ],
    ),
    "fence first, then read the committed offset": (
        without.ReadsBeforeItFences,
        [(APPEND, EMITTED), (RELAY, RELAYED)],
    ),
    "a committed offset is read once no transaction is about to move it": (
        without.ReadsUnstableOffsets,
        [(APPEND, EMITTED | {"error"}), (RELAY, RELAYED | {"error"})],
    ),
}
ROLE_CASES = [
    pytest.param(writer, scenario, kinds, id=f"{rule}, {scenario.roles[0]} {i}")
    for rule, (writer, cases) in ROLE_RULES.items()
    for i, (scenario, kinds) in enumerate(cases)
]

FLEET_RULES = {
    "an EndTxn is not sent again within its epoch": (
        without.RepeatsEndTxn,
        "late requests",
        EMITTED | REPLIED,
    ),
    "a new epoch comes after a request without an answer": (
        without.KeepsItsEpoch,
        "late requests",
        EMITTED | REPLIED,
    ),
    "an owner remembers that a fence of its own may come late": (
        without.ForgetsItsFences,
        "late requests of undisturbed owners",
        {"given up to nobody"},
    ),
    "a request without an answer means unavailable, not fenced": (
        without.TakesSilenceForAFence,
        "late requests of undisturbed owners",
        {"given up to nobody"},
    ),
}


@pytest.mark.parametrize(("writer", "scenario", "kinds"), ROLE_CASES)
def test_without_the_rule_a_role_breaks_an_invariant(
    writer: type[SimulatedWriter], scenario: RoleScenario, kinds: set[str]
) -> None:
    parts = RoleParts(late_writer=writer)
    _assert_broken(schedule.violations(replace(scenario, parts=parts), SEEDS), kinds)


def test_without_verification_a_late_batch_stays_open_for_ever() -> None:
    parts = RoleParts(broker=without.VerifiesNothing)
    _assert_broken(schedule.violations(replace(RELAY, parts=parts), SEEDS), RELAYED)


@pytest.mark.parametrize("rule", FLEET_RULES)
def test_without_the_rule_a_fleet_breaks_a_promise(rule: str) -> None:
    writer, name, kinds = FLEET_RULES[rule]
    parts = FleetParts(late_writer=writer)
    scenario = replace(test_fleet.SCENARIOS[name][1], parts=parts)
    _assert_broken(fleet_schedule.violations(scenario, SEEDS), kinds)


def test_views_too_need_the_offset_that_no_transaction_is_about_to_move() -> None:
    parts = ProjectionParts(late_writer=without.ReadsUnstableOffsets)
    name = "late requests of owners that park"
    scenario = replace(test_projections.SCENARIOS[name][1], parts=parts)
    _assert_broken(projection_schedule.violations(scenario, SEEDS), {"error"})


def _assert_broken(found: Iterator[BrokenInvariant], kinds: set[str]) -> None:
    first = next(found, None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
