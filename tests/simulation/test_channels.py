"""Commands over channels keep their promises; SCHEDULES=200000 looks longer."""

from collections import Counter
from functools import cache

import pytest

from tests.simulation import channels_without_rules
from tests.simulation.channel_schedule import run, violations
from tests.simulation.channel_world import ChannelParts, ChannelScenario
from tests.simulation.fleet_schedule import scaled

SEEDS = range(2000)
REFUSED, LATE = "refused and stored", "put after its sender was answered"
RESTARTS = "the channels' server begins anew"

SCENARIOS = {
    "processes that stand still": (100, ChannelScenario()),
    "processes that die, too": (60, ChannelScenario(kills=0.0005)),
    RESTARTS: (60, ChannelScenario(stalls=0.008, restarts=0.004)),
}
OCCURRENCES = {
    *("accepted", "rejected", "unavailable"),
    *("a process stands still", "a process is killed", RESTARTS),
}

# A rule, what stands in for the part that has it, where it is missed, and how.
RULES = {
    "nothing is claimed past its deadline": (
        ChannelParts(channels=channels_without_rules.ClaimsAnew),
        "processes that stand still",
        {REFUSED, LATE},
    ),
    "a claim outlives the deadline": (
        ChannelParts(channels=channels_without_rules.ForgetsClaims),
        "processes that stand still",
        {REFUSED, LATE},
    ),
    "a deadline counts in its own incarnation": (
        ChannelParts(channels=channels_without_rules.LivesOn),
        RESTARTS,
        {REFUSED, LATE},
    ),
    "the deadline of the claim holds for the decision": (
        ChannelParts(subscriber=channels_without_rules.DecidesAfresh),
        "processes that stand still",
        {LATE},
    ),
    "the deadline is looked at before the put": (
        ChannelParts(commander=channels_without_rules.PutsLate),
        "processes that stand still",
        {LATE},
    ),
    "a command keeps its own deadline in a batch": (
        ChannelParts(batcher=channels_without_rules.SharesDeadlines),
        "processes that stand still",
        {LATE},
    ),
    "the deadline comes before the sender gives up": (
        ChannelParts(sender=channels_without_rules.GivesUpEarly),
        "processes that stand still",
        {LATE},
    ),
}


@cache
def occurrences_in(name: str) -> Counter[str]:
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_decided_once_its_sender_is_answered(name: str) -> None:
    occurrences_in(name)


def test_each_outcome_and_fault_occurs() -> None:
    occurred = sum(map(occurrences_in, SCENARIOS), Counter[str]())
    assert {each for each in OCCURRENCES if occurred[each] >= 10} == OCCURRENCES, occurred


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str) -> None:
    parts, name, kinds = RULES[rule]
    scenario = SCENARIOS[name][1]
    broken = ChannelScenario(
        stalls=scenario.stalls, kills=scenario.kills, restarts=scenario.restarts, parts=parts
    )
    first = next(violations(broken, SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
