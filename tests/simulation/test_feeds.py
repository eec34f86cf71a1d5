"""Every client's copy of a feed equals the store's in the end; SCHEDULES=200000 looks longer."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation import feeds_without_rules as without
from tests.simulation.feed_schedule import run, violations
from tests.simulation.feed_world import FeedParts, FeedScenario
from tests.simulation.fleet_schedule import scaled

SEEDS = range(1000)
CUTS, KILLS, RESTORES = "cuts", "services that die, too", "a store that is restored, too"

SCENARIOS = {
    CUTS: (40, FeedScenario()),
    KILLS: (40, FeedScenario(kills=0.001)),
    RESTORES: (80, FeedScenario(kills=0.0005, restores=0.001)),
}
OCCURRENCES = {
    *("a connection is cut", "a service stands still", "a service is killed", "the store fails"),
    *("the store is restored", "a client loads anew"),
}
GAP, DOUBLE, BEHIND = "gap", "double", "a copy is not the store's"
FOR_NOTHING = "loads anew for nothing"

# A rule, what stands in for the part that has it, where it is missed, and how.
RULES = {
    "what was missed ends at the feed's place": (
        FeedParts(domain_client=without.ReadsBeyond),
        CUTS,
        {DOUBLE, GAP},
    ),
    "of what is kept a client takes what it lacks": (
        FeedParts(feed=without.TakesAllThatIsKept),
        CUTS,
        {DOUBLE, GAP},
    ),
    "a client that catches up has a place of its own": (
        FeedParts(feed=without.TakesTheFeedsPlace),
        CUTS,
        {DOUBLE, GAP},
    ),
    "a client behind what is kept reads the store": (
        FeedParts(domain_client=without.StaysLive),
        CUTS,
        {GAP, BEHIND},
    ),
    "what was read is of the life that the place is of": (
        FeedParts(feed=without.ReadsOn),
        RESTORES,
        {GAP, DOUBLE, BEHIND},
    ),
    "in another life of the store the feed begins anew": (
        FeedParts(feed=without.LivesOnAsBefore),
        RESTORES,
        {GAP, DOUBLE, BEHIND, FOR_NOTHING},
    ),
    "each partition is read once a second": (
        FeedParts(feed=without.WaitsForNews),
        CUTS,
        {BEHIND},
    ),
    "the feed catches up with a client that is ahead of it": (
        FeedParts(domain_client=without.AsksNoRound),
        CUTS,
        {FOR_NOTHING},
    ),
    "only a client for which nothing came moves to the feed's place": (
        FeedParts(domain_client=without.SkipsWhatWokeIt),
        CUTS,
        {GAP, BEHIND},
    ),
    "a client is woken also where its time is over": (
        FeedParts(feed=without.LosesLateWakes),
        CUTS,
        {GAP, BEHIND},
    ),
    "what was read from the store is not taken from the feed": (
        FeedParts(aggregate_client=without.TakesStoredAgain),
        CUTS,
        {DOUBLE, GAP},
    ),
    "the feed is joined before the store is read, or a missing version is seen": (
        FeedParts(aggregate_client=without.JoinsLate),
        CUTS,
        {GAP, BEHIND},
    ),
    "the store has the event that the client had last": (
        FeedParts(aggregate_client=without.TrustsItsVersion),
        RESTORES,
        {GAP, DOUBLE, BEHIND},
    ),
    "a client is opened anew in the present life": (
        FeedParts(response=without.ReloadsAtOnce),
        RESTORES,
        {FOR_NOTHING},
    ),
    "the cursor moves with the end of a message": (
        FeedParts(follower=without.MovesEarly),
        CUTS,
        {GAP, BEHIND},
    ),
}


@cache
def occurrences_in(name: str) -> Counter[str]:
    schedules, scenario = SCENARIOS[name]
    return run(scenario, range(scaled(schedules)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_copy_equals_the_stores_without_gap_or_double(name: str) -> None:
    occurrences_in(name)


def test_each_fault_occurs() -> None:
    occurred = sum(map(occurrences_in, SCENARIOS), Counter[str]())
    assert {each for each in OCCURRENCES if occurred[each] >= 10} == OCCURRENCES, occurred


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str) -> None:
    parts, name, kinds = RULES[rule]
    broken = replace(SCENARIOS[name][1], parts=parts)
    first = next(violations(broken, SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
