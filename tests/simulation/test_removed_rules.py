"""Each rule is needed: without it some schedule breaks an invariant, and the right one."""

import pytest

from eventfleet.stores.errors import Fenced, ServerUnavailable
from tests.simulation import removed
from tests.simulation.schedule import violations
from tests.simulation.world import Parts, Scenario

SEEDS = range(3000)
ALL_ROLES = ("append", "snapshot", "relay")


def loaded(parts: Parts) -> Scenario:
    return Scenario(("append",), parts=parts)


def following(parts: Parts) -> Scenario:
    return Scenario(("append",), marked=True, parts=parts)


def put(parts: Parts) -> Scenario:
    return Scenario(("append",), puts=True, parts=parts)


def snapshots(parts: Parts, queries: int = 0) -> Scenario:
    return Scenario(("snapshot",), fed=True, queries=queries, parts=parts)


def relay(parts: Parts) -> Scenario:
    return Scenario(("relay",), fed=True, repeats=False, parts=parts)


def chain(parts: Parts) -> Scenario:
    return Scenario(ALL_ROLES, marked=True, parts=parts)


RULES = {
    "one record places all unplaced lower versions first": [
        (put(Parts(plan=removed.PlacesItsOwnOnly)), {"position order is not version order"}),
    ],
    "offsets and emitted records in one transaction": [
        (loaded(Parts(writer=removed.EmitsThenMoves)), {"emitted twice"}),
        (loaded(Parts(writer=removed.MovesThenEmits)), {"not emitted"}),
        (relay(Parts(writer=removed.EmitsThenMoves)), {"relayed twice"}),
        (relay(Parts(writer=removed.MovesThenEmits)), {"not relayed"}),
    ],
    "the head cache moves only after the write's acknowledgement": [
        (loaded(Parts(append=removed.MovesItsCacheEarly)), {"gap"}),
    ],
    "fence first, then read the committed offset, then seek": [
        (loaded(Parts(writer=removed.ReadsBeforeItFences)), {"emitted twice"}),
        (relay(Parts(writer=removed.ReadsBeforeItFences)), {"relayed twice"}),
    ],
    "a fenced owner gives the partition up": [
        (loaded(Parts(stubborn=(Fenced,))), {"emitted twice"}),
        (relay(Parts(stubborn=(Fenced,))), {"relayed twice"}),
        (snapshots(Parts(stubborn=(Fenced,))), {"topic went back"}),
    ],
    "after a failed commit the offset is read again": [
        (loaded(Parts(stubborn=(ServerUnavailable,))), {"emitted twice"}),
        (relay(Parts(stubborn=(ServerUnavailable,))), {"relayed twice"}),
    ],
    "a repeat is recognised by its event id": [
        (loaded(Parts(append=removed.KnowsNoRepeats)), {"stored twice"}),
    ],
    "a superseded event is never inserted": [
        (following(Parts(plan=removed.InsertsSuperseded)), {"stored against the rule"}),
    ],
    "a successor emits what a dead owner has stored": [
        (loaded(Parts(plan=removed.EmitsItsOwnOnly)), {"not emitted"}),
    ],
    "snapshots are guarded by version": [
        (snapshots(Parts(snapshot_store=removed.LastWrittenWins), 3), {"snapshot went back"}),
    ],
    "a gap is read from the stores": [
        (snapshots(Parts(snapshots=removed.FoldsOverGaps)), {"snapshot is not the fold"}),
    ],
    "a repeat is not folded": [
        (snapshots(Parts(snapshots=removed.FoldsRepeats)), {"snapshot is not the fold"}),
    ],
    "a loaded snapshot goes to the topic again": [
        (snapshots(Parts(snapshots=removed.KeepsLoadedToItself)), {"topic is behind"}),
    ],
    "the compacted topic is written by the fenced producer only": [
        (snapshots(Parts(writer=removed.ProducesUnfenced)), {"topic went back"}),
    ],
    "only committed records are consumed": [
        (chain(Parts(reads_uncommitted=True)), {"relayed twice"}),
    ],
}
CASES = [
    pytest.param(scenario, kinds, id=f"{rule}, {'+'.join(scenario.roles)} {i}")
    for rule, cases in RULES.items()
    for i, (scenario, kinds) in enumerate(cases)
]


@pytest.mark.parametrize(("scenario", "kinds"), CASES)
def test_without_the_rule_an_invariant_breaks(
    scenario: Scenario, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.roles.append.Plan", scenario.parts.plan)
    first = next(violations(scenario, SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
