"""Each rule of the project role is needed: without it some schedule breaks a promise, and which."""

from dataclasses import replace

import pytest

from tests.simulation import projections_without_rules as without
from tests.simulation.projection_scenarios import SCENARIOS
from tests.simulation.projection_schedule import violations
from tests.simulation.projection_world import ProjectionParts

SEEDS = range(1000)
TOTALS = {"totals that the rows do not give"}
ROWS = {"a row that no events give", "rows that the events do not give", "error"}
"""An event that is applied to the wrong row mostly raises, so that its aggregate is parked."""
LESS = {"a row went back", "a flip to less", "told too early"}

# A rule, what stands in for the part that has it, where it is missed, and how.
RULES = {
    "a write is refused where the row is stored with this point or a later one": (
        ProjectionParts(rows=without.OverwritesRows),
        "owners of several versions",
        ROWS | LESS,
    ),
    "so is that of a part of a total": (
        ProjectionParts(totals=without.OverwritesRows),
        "repeats",
        TOTALS,
    ),
    "totals are stored before rows": (
        ProjectionParts(projector=without.SavesRowsFirst),
        "repeats",
        TOTALS,
    ),
    "rows are cached once they are stored, or dropped when the role is opened": (
        ProjectionParts(projector=without.CachesAtOnce, role=without.KeepsProjectors),
        "one owner at a time",
        ROWS | LESS | TOTALS,
    ),
    "a row passes over the events that it has": (
        ProjectionParts(projector=without.AppliesTwice),
        "one owner at a time",
        ROWS | LESS,
    ),
    "so does a part of a total": (
        ProjectionParts(projector=without.AddsTwice),
        "one owner at a time",
        TOTALS,
    ),
    "progress is noted in place of the known one": (
        ProjectionParts(views=without.NotesBlindly),
        "owners stand still",
        ROWS | LESS,
    ),
    "a build is made live once it is ready in all partitions": (
        ProjectionParts(partitions=lambda _: 0),
        "one owner at a time",
        {"a flip to less"},
    ),
    "the store looks at that again, in the same step": (
        ProjectionParts(views=without.MakesAnyLive),
        "owners stand still",
        {"a flip to less"},
    ),
    "an owner says before its first chunk what it does not keep": (
        ProjectionParts(role=without.LeavesBuildsReady),
        "owners of several versions",
        ROWS | LESS,
    ),
    "an owner counts that it takes over a build that is not ready": (
        ProjectionParts(role=without.CountsNoTakeover),
        "owners stand still",
        ROWS | LESS,
    ),
    "a deleted row stays as a tombstone": (
        ProjectionParts(rows=without.DeletesAtOnce),
        "one owner at a time",
        ROWS | LESS,
    ),
    "so does an empty part of a total": (
        ProjectionParts(totals=without.DeletesAtOnce),
        "owners of several versions",
        TOTALS,
    ),
    "the offset is committed once the rows are stored": (
        ProjectionParts(role=without.CommitsFirst),
        "one owner at a time",
        ROWS | LESS,
    ),
    "a repeat is left out wherever it stands in a chunk": (
        ProjectionParts(first_times=without.behind),
        "repeats",
        ROWS | LESS,
    ),
    "the first event of an aggregate may be a repeat": (
        ProjectionParts(projector=without.TrustsFirstEvents),
        "repeats",
        ROWS | LESS | TOTALS,
    ),
    "parts are read again where a stored row is ahead": (
        ProjectionParts(projector=without.KeepsParts),
        "owners stand still amid many events",
        TOTALS,
    ),
    "a build that follows gets a chunk before the live one": (
        ProjectionParts(role=without.AppliesLiveFirst),
        "one owner at a time",
        {"a flip to less"},
    ),
    "what is parked is committed before a build is written to without it": (
        ProjectionParts(parking=without.ParksWithItsOffset),
        "an owner whose code is mended and set back",
        TOTALS,
    ),
    "what is parked is written in one transaction with the offset": (
        ProjectionParts(role=without.ParksAfterItsOffset),
        "a view without totals is redriven",
        ROWS,
    ),
    "later events of a parked aggregate are parked behind it": (
        ProjectionParts(role=without.LetsLaterEventsPass),
        "one owner at a time, which parks",
        ROWS,
    ),
    "so are those of builds that are brought up to date": (
        ProjectionParts(role=without.CatchesUpWithAll),
        "one owner at a time, which parks",
        ROWS,
    ),
    "a redrive has the rows stored before it ends the entry": (
        ProjectionParts(role=without.EndsEntriesFirst),
        "a view without totals is redriven",
        ROWS,
    ),
    "after a redrive builds that have totals are built anew": (
        ProjectionParts(role=without.KeepsBuildsWithTotals),
        "one owner at a time, which parks",
        TOTALS,
    ),
    "after a discard each build is built anew": (
        ProjectionParts(role=without.DiscardsInPlace),
        "one owner at a time, which parks",
        ROWS,
    ),
    "a build that parks what the live one has is held": (
        ProjectionParts(role=without.MakesHeldLive),
        "one owner at a time, which parks",
        {"a flip to what parks more"},
    ),
    "an aggregate is parked in the build alone whose code raises": (
        ProjectionParts(parking=without.ParksForAllBuilds),
        "a deployment whose code raises is taken back",
        ROWS | {"stuck"},
    ),
    "an owner knows what was discarded before": (
        ProjectionParts(parking=without.ForgetsDiscards),
        "one owner at a time, which parks",
        ROWS | {"stuck"},
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_a_promise_breaks(rule: str) -> None:
    parts, name, kinds = RULES[rule]
    first = next(violations(replace(SCENARIOS[name][1], parts=parts), SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
