"""A failure shrinks to a short schedule, which reads as a story."""

from dataclasses import replace
from typing import Any

import pytest

from tests.simulation import markers_without_rules, roles_without_rules
from tests.simulation.checker import BrokenInvariant
from tests.simulation.marker_scenarios import SCENARIOS
from tests.simulation.marker_schedule import MarkerSchedule
from tests.simulation.marker_world import MarkerParts
from tests.simulation.schedule import RoleSchedule
from tests.simulation.shrinker import Shrinker, tell_shrunk
from tests.simulation.world import RoleParts, RoleScenario

DUPLICATE_FIRST = RoleScenario(
    ("append",),
    events=12,
    again=0.7,
    failures=0.95,
    parts=RoleParts(events=roles_without_rules.TakesTheDuplicateFirst),
)
BY_OLD_MARKERS = replace(
    SCENARIOS["nothing but order"][1],
    parts=MarkerParts(redis=markers_without_rules.RejectsByOldMarkers),
)


def first_failure(make: Any, scenario: Any) -> tuple[int, BrokenInvariant]:
    for seed in range(1000):
        try:
            make(scenario, seed).run()
        except BrokenInvariant as violation:
            return seed, violation
    raise AssertionError("nothing fails")


@pytest.mark.parametrize(
    ("make", "scenario", "deed"),
    [
        (RoleSchedule, DUPLICATE_FIRST, "of 0: meets: a reply with two errors"),
        (MarkerSchedule, BY_OLD_MARKERS, "answers c1"),
    ],
)
def test_a_failure_shrinks_to_a_short_story_of_who_did_what(
    make: Any, scenario: Any, deed: str
) -> None:
    seed, violation = first_failure(make, scenario)
    story = tell_shrunk(make, scenario, seed)
    *steps, last = story.splitlines()[1:]
    assert story.startswith(violation.kind)
    assert deed in story
    assert last.startswith("The story had")
    assert len(steps) < int(last.split()[3]) * 2 / 3


def test_a_schedule_that_fails_not_is_not_shrunk() -> None:
    with pytest.raises(ValueError, match="seed 1 breaks nothing"):
        Shrinker(lambda draws: RoleSchedule(RoleScenario(("append",)), draws)).shrink(1)
