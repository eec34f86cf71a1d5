"""What documents publish keeps its promises; SCHEDULES=500000 looks 50 times as long."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation import publications_without_rules as without
from tests.simulation.fleet_schedule import scaled
from tests.simulation.publication_schedule import run, violations
from tests.simulation.publication_world import PublicationParts, PublicationScenario

SEEDS = range(1000)
LOST, DISORDER, STUCK = "not delivered", "out of order", "stuck"
UNPUBLISHED = (LOST, DISORDER, STUCK)
"""What an event that is not published again may be missed by first."""

SCENARIOS = {
    "processes stand still and die": (300, PublicationScenario()),
    "some events can't be published": (500, PublicationScenario(poison=0.3)),
    "the bus restarts empty": (300, PublicationScenario(restarts=0.002)),
    "both": (200, PublicationScenario(poison=0.3, restarts=0.001)),
    "writes arrive late": (300, PublicationScenario(poison=0.5, late=0.15, processes=3)),
    "writes arrive late, and the bus restarts": (
        200,
        PublicationScenario(late=0.15, restarts=0.001, processes=3),
    ),
    "all of it": (
        200,
        PublicationScenario(poison=0.5, late=0.15, restarts=0.001, processes=3),
    ),
}
OCCURRENCES = {
    *("a process stands still", "a process is killed"),
    *("the bus restarts empty", "a request arrives late"),
}

# A rule, what stands in for the part that has it, where it is missed, and how.
RULES = {
    "an event is settled once it is published": (
        PublicationParts(publication=without.SettlesFirst),
        "processes stand still and die",
        LOST,
    ),
    "so is a parked one": (
        PublicationParts(publication=without.SettlesParkedFirst),
        "some events can't be published",
        LOST,
    ),
    "what lies behind an event that fails is parked with it": (
        PublicationParts(publication=without.ParksAlone),
        "some events can't be published",
        DISORDER,
    ),
    "the store says what is parked, after the page was read": (
        PublicationParts(publication=without.TrustsMemory),
        "writes arrive late",
        DISORDER,
    ),
    "a redrive begins with what became pending below": (
        PublicationParts(publication=without.RedrivesAnyOrder),
        "all of it",
        DISORDER,
    ),
    "a parking ends once none of its events is parked": (
        PublicationParts(publication=without.EndsAtOnce),
        "some events can't be published",
        STUCK,
    ),
    "what an interrupted publisher has parked is found": (
        PublicationParts(publication=without.ForgetsInterrupted),
        "some events can't be published",
        STUCK,
    ),
    "nothing is published in an unknown incarnation": (
        PublicationParts(bus=without.PublishesBlindly),
        "the bus restarts empty",
        DISORDER,
    ),
    "a group that was lost begins at the start": (
        PublicationParts(bus=without.BeginsAtTheEnd),
        "the bus restarts empty",
        LOST,
    ),
    "an event is confirmed once it was handled": (
        PublicationParts(bus=without.ConfirmsWhatWasRead),
        "the bus restarts empty",
        LOST,
    ),
    "what was not confirmed is published again": (
        PublicationParts(confirmations=without.NeverPublishesAgain),
        "the bus restarts empty",
        UNPUBLISHED,
    ),
    "so is what is settled late in an earlier incarnation": (
        PublicationParts(confirmations=without.ReclaimsOnce),
        "writes arrive late, and the bus restarts",
        STUCK,
    ),
    "an incarnation is noted once all is pending again": (
        PublicationParts(confirmations=without.NotesFirst),
        "the bus restarts empty",
        UNPUBLISHED,
    ),
    "the groups of the incarnation before are waited for": (
        PublicationParts(confirmations=without.WaitsForNobody),
        "the bus restarts empty",
        LOST,
    ),
}


@cache
def occurrences_in(name: str) -> Counter[str]:
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_event_is_delivered_to_each_group_in_order(name: str) -> None:
    occurrences_in(name)


def test_each_fault_occurs() -> None:
    occurred = sum(map(occurrences_in, SCENARIOS), Counter[str]())
    assert {each for each in OCCURRENCES if occurred[each] >= 100} == OCCURRENCES, occurred


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str) -> None:
    parts, name, kind = RULES[rule]
    first = next(violations(replace(SCENARIOS[name][1], parts=parts), SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in (kind if isinstance(kind, tuple) else (kind,)), first
