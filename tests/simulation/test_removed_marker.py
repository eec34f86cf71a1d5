"""Each rule of the marker is needed: without it some schedule breaks a promise, and which."""

from dataclasses import replace

import pytest

from tests.simulation import markers_without_rules, roles_without_rules
from tests.simulation.marker_scenarios import SCENARIOS
from tests.simulation.marker_schedule import run, scaled, violations
from tests.simulation.marker_world import MarkerParts, MarkerScenario

SEEDS = range(5000)
FALSE = {"accepted but not stored", "accepted again", "rejected after it was accepted"}
ORDER = {"forbidden in .events", "twice in .events"}
PARKS_MUCH = "append parks much, and Redis is flushed"
BEGINS = "a domain begins, and Redis is flushed"
DESKS = "who decides the topic's commands stands still"
TWO_CODES = "append parks, and its owners have two codes"
AT_A_MARK = "who decides the topic's commands stands still before a mark"
AT_A_NOTE = "who decides the topic's commands stands still before it is noted"

NARROW = {
    AT_A_MARK: replace(SCENARIOS[DESKS][1], hesitates=0.2, hesitates_at=("mark",), names=("Lend",)),
    AT_A_NOTE: replace(
        SCENARIOS[DESKS][1], hesitates=0.2, hesitates_at=("note_owner",), names=("Lend",)
    ),
}
"""Where all stand still at one call, and what they refuse is allowed once the state has changed: a
missing rule is met in fewer schedules."""

# A rule, what stands in for the part that has it, where it is missed, and how.
RULES = {
    "another's pending note comes first": (
        MarkerParts(redis=markers_without_rules.KeepsNobodyWaiting),
        "everything but a loss",
        FALSE | ORDER | {"rejected for what was not there"},
    ),
    "who confirms names the note exactly": (
        MarkerParts(redis=markers_without_rules.ClearsWhateverStands),
        "everything but a loss",
        FALSE | ORDER | {"rejected for what was not there"},
    ),
    "no marker expires while a note stands": (
        MarkerParts(redis=markers_without_rules.LetsNotesExpire),
        "slow owners, markers that expire",
        FALSE | ORDER,
    ),
    "the store is asked when append is past what matters": (
        MarkerParts(guard=markers_without_rules.TrustsTheStore),
        "everything but a loss",
        FALSE | ORDER,
    ),
    "a look older than the marker does not count, nor an old one": (
        MarkerParts(
            redis=markers_without_rules.TakesOldLooks, guard=markers_without_rules.KeepsOldLooks
        ),
        "slow owners, markers that expire",
        FALSE | ORDER,
    ),
    "an event says which it follows": (
        MarkerParts(plan=roles_without_rules.InsertsSuperseded),
        "Redis is flushed",
        {"forbidden in the store"},
    ),
    "a rejection by a marker made anew is compared with the store": (
        MarkerParts(marking=markers_without_rules.TrustsRejections),
        "Redis is flushed",
        {"rejected for what was not there"},
    ),
    "the ids of events are remembered": (
        MarkerParts(redis=markers_without_rules.ForgetsIds),
        "repeats, a store that is behind",
        FALSE | ORDER,
    ),
    "another run of Redis is another life": (
        MarkerParts(redis=markers_without_rules.LivesOn),
        "Redis restarts from an old dump",
        FALSE,
    ),
    "who marks is the owner of the command's partition": (
        MarkerParts(command=markers_without_rules.AsksForNoOwner),
        DESKS,
        {"refused but stored", "stuck"},  # for they take each other's place again and again
    ),
    "a mark names the latest owner that was noted beside the markers": (
        MarkerParts(redis=markers_without_rules.MarksForAnyOwner),
        AT_A_MARK,
        {"refused but stored"},
    ),
    "an owner is noted beside the markers before it is asked for": (
        MarkerParts(marking=markers_without_rules.AsksBeforeItIsNoted),
        AT_A_NOTE,
        {"refused but stored"},
    ),
    "an owner is noted before it fences the one before it": (
        MarkerParts(command=roles_without_rules.IsNotedAfterItsFence),
        AT_A_NOTE,
        {"refused but stored"},
    ),
    "append has the last word in a young life": (
        MarkerParts(redis=markers_without_rules.IsAlwaysSure),
        "Redis is flushed",
        {"accepted but not stored"},
    ),
    "the first life is read again once it was written": (
        MarkerParts(incarnations=markers_without_rules.TrustsItsOwnFirst),
        BEGINS,
        {"accepted but not stored"},
    ),
    "the first life is written before the first mark": (
        MarkerParts(incarnations=markers_without_rules.RegistersLater),
        BEGINS,
        {"accepted but not stored"},
    ),
    "a new id is looked up once it was marked": (
        MarkerParts(marking=markers_without_rules.LeavesNewOnesUnlooked),
        "Redis is flushed",
        FALSE | ORDER | {"forbidden in the store"},
    ),
    "only what the rule forbids is rejected": (
        MarkerParts(redis=markers_without_rules.RejectsAtRandom),
        "nothing but order",
        {"rejected although allowed"},
    ),
    "the latest event rejects": (
        MarkerParts(redis=markers_without_rules.RejectsByOldMarkers),
        "nothing but order",
        {"rejected for what was not there"},
    ),
    "nothing is produced past the deadline": (
        MarkerParts(marking=markers_without_rules.ProducesLate),
        "who notes stands still, and Redis is flushed",
        {"accepted but not stored"},
    ),
    "what an event follows is looked at before what it holds": (
        MarkerParts(plan=markers_without_rules.ParksBeforeItSupersedes),
        PARKS_MUCH,
        {"forbidden in the store"},
    ),
    "for a decider what is parked is stored": (
        MarkerParts(marking=markers_without_rules.SeesPlacedOnly),
        PARKS_MUCH,
        FALSE | {"rejected for what was not there"},  # but for what came before it
    ),
    "no command is marked whose aggregate is known to be parked": (
        MarkerParts(guard=markers_without_rules.KnowsNoParked),
        TWO_CODES,
        {"accepted where it is parked"},
    ),
    "a discarded event keeps its place in the chain": (
        MarkerParts(events=markers_without_rules.RemovesDiscarded),
        TWO_CODES,
        {"gap", "accepted but not stored", "stuck", "accepted where it is parked"},
    ),
    "what comes behind a parked event is parked": (
        MarkerParts(plan=markers_without_rules.PlacesBehindParked),
        TWO_CODES,
        {"stuck", "gap"},
    ),
    "parked events are placed in their order": (
        MarkerParts(plan=markers_without_rules.PlacesInAnyOrder),
        TWO_CODES,
        {"stuck", "gap", "emitted otherwise than stored"},
    ),
    "a redriven event that is not placed is refused at its offset": (
        MarkerParts(plan=markers_without_rules.PassesOver),
        TWO_CODES,
        {"stuck", "emitted otherwise than stored"},
    ),
    "what is parked is listed before the offset moves": (
        MarkerParts(parking=markers_without_rules.Unlisted),
        TWO_CODES,
        {"stuck"},
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, name, kinds = RULES[rule]
    monkeypatch.setattr("eventfleet.roles.append.Plan", parts.plan)
    scenario: MarkerScenario = replace(NARROW.get(name) or SCENARIOS[name][1], parts=parts)
    first = next(violations(scenario, SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first


@pytest.mark.parametrize("name", NARROW)
def test_with_all_rules_promises_are_kept_there(name: str) -> None:
    run(NARROW[name], range(scaled(40)))
