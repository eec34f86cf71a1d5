"""Each rule is needed: without it some schedule breaks an invariant, and the right one."""

from dataclasses import replace

import pytest

from eventfleet.stores.errors import Fenced, ServerUnavailable
from tests.simulation import roles_without_rules
from tests.simulation.schedule import violations
from tests.simulation.world import RoleParts, RoleScenario

SEEDS = range(1000)
ALL_ROLES = ("append", "snapshot", "relay")


async def let_pass(*_: object) -> None:
    """Any offset will do."""


def loaded(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("append",), parts=parts)


def following(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("append",), marked=True, parts=parts)


def put(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("append",), puts=True, parts=parts)


def snapshots(parts: RoleParts, queries: int = 0) -> RoleScenario:
    return RoleScenario(("snapshot",), fed=True, queries=queries, parts=parts)


def relay(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("relay",), fed=True, repeats=False, parts=parts)


def parking_relay(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("relay",), fed=True, repeats=False, poison=0.3, parts=parts)


def refused_relay(parts: RoleParts) -> RoleScenario:
    return replace(parking_relay(parts), too_large=True)


def parking_snapshots(parts: RoleParts) -> RoleScenario:
    return RoleScenario(("snapshot",), fed=True, poison=0.3, parts=parts)


def chain(parts: RoleParts) -> RoleScenario:
    return RoleScenario(ALL_ROLES, marked=True, parts=parts)


# Of what was rolled back; an error where append finds its note in the store gone.
LOSSES = {
    "placed at another's offset",
    "lost",
    "order",
    "gap",
    "emitted out of order",
    "emitted otherwise than stored",
}

RULES = {
    "one record places all unplaced lower versions first": [
        (
            put(RoleParts(plan=roles_without_rules.PlacesItsOwnOnly)),
            {"position order is not version order"},
        ),
        (
            put(RoleParts(placing=roles_without_rules.PlacesWhatIsFound)),
            {"position order is not version order"},
        ),
    ],
    "offsets and emitted records in one transaction": [
        (
            loaded(RoleParts(writer=roles_without_rules.EmitsThenMoves)),
            {"emitted twice", "emitted otherwise than stored"},
        ),
        (loaded(RoleParts(writer=roles_without_rules.MovesThenEmits)), {"not emitted"}),
        (relay(RoleParts(writer=roles_without_rules.EmitsThenMoves)), {"relayed twice"}),
        (relay(RoleParts(writer=roles_without_rules.MovesThenEmits)), {"not relayed"}),
    ],
    "the head cache moves only after the write's acknowledgement": [
        (loaded(RoleParts(append=roles_without_rules.MovesItsCacheEarly)), {"gap"}),
    ],
    "fence first, then read the committed offset, then seek": [
        (loaded(RoleParts(writer=roles_without_rules.ReadsBeforeItFences)), {"emitted twice"}),
        (relay(RoleParts(writer=roles_without_rules.ReadsBeforeItFences)), {"relayed twice"}),
    ],
    "a fenced owner gives the partition up": [
        (loaded(RoleParts(stubborn=(Fenced,))), {"emitted twice"}),
        (relay(RoleParts(stubborn=(Fenced,))), {"relayed twice"}),
        (replace(snapshots(RoleParts(stubborn=(Fenced,))), events=14), {"topic went back"}),
    ],
    "after a failed commit the offset is read again": [
        (
            # An owner whose records retention has removed would only stand still.
            replace(loaded(RoleParts(stubborn=(ServerUnavailable,))), failures=0.0),
            {"emitted twice"},
        ),
        (relay(RoleParts(stubborn=(ServerUnavailable,))), {"relayed twice"}),
    ],
    "a repeat is recognised by its event id": [
        (loaded(RoleParts(append=roles_without_rules.KnowsNoRepeats)), {"stored twice"}),
    ],
    "a superseded event is never inserted": [
        (
            following(RoleParts(plan=roles_without_rules.InsertsSuperseded)),
            {"stored against the rule"},
        ),
    ],
    "a successor emits what a dead owner has stored": [
        (loaded(RoleParts(plan=roles_without_rules.EmitsItsOwnOnly)), {"not emitted"}),
    ],
    "snapshots are guarded by version": [
        (
            snapshots(RoleParts(snapshot_store=roles_without_rules.LastWrittenWins), 3),
            {"snapshot went back"},
        ),
    ],
    "a gap is read from the stores": [
        (
            snapshots(RoleParts(snapshots=roles_without_rules.FoldsOverGaps)),
            {"snapshot is not the fold"},
        ),
    ],
    "a repeat is not folded": [
        (
            snapshots(RoleParts(snapshots=roles_without_rules.FoldsRepeats)),
            {"snapshot is not the fold"},
        ),
    ],
    "a loaded snapshot goes to the topic again": [
        (
            snapshots(RoleParts(snapshots=roles_without_rules.KeepsLoadedToItself)),
            {"topic is behind"},
        ),
    ],
    "the compacted topic is written by the fenced producer only": [
        (snapshots(RoleParts(writer=roles_without_rules.ProducesUnfenced)), {"topic went back"}),
    ],
    "a write is acknowledged when a majority has it": [
        (loaded(RoleParts(events=roles_without_rules.AcknowledgesAlone)), LOSSES | {"error"}),
        (put(RoleParts(events=roles_without_rules.AcknowledgesAlone)), LOSSES),
    ],
    "a write of several shards is acknowledged when each has it on a majority": [
        (
            loaded(RoleParts(events=roles_without_rules.AcknowledgesByOneShard)),
            LOSSES | {"error", "emitted twice"},
        ),
    ],
    "reads show what a majority has": [
        (loaded(RoleParts(events=roles_without_rules.ShowsThePrimary)), LOSSES | {"error"}),
    ],
    "of two errors that of the write concern comes first": [
        (loaded(RoleParts(events=roles_without_rules.TakesTheDuplicateFirst)), LOSSES),
    ],
    "an owner stops where the log does not have its offset": [
        (loaded(RoleParts(minds_offsets=False)), {"lost", "not emitted"}),
        (following(RoleParts(minds_offsets=False)), {"lost", "not emitted"}),
    ],
    "what is parked is written in one transaction with the offset": [
        (
            parking_relay(RoleParts(relay=roles_without_rules.ParksAfterItsOffset)),
            {"not relayed", "relayed out of order"},
        ),
    ],
    "later events of a parked aggregate are parked behind it": [
        (
            parking_relay(RoleParts(parking=roles_without_rules.LetsLaterEventsPass)),
            {"not relayed", "relayed out of order", "relayed twice"},
        ),
    ],
    "an owner reads what is parked before its first chunk": [
        (
            parking_relay(RoleParts(parking=roles_without_rules.BeginsWithoutTheList)),
            {"relayed out of order", "stuck"},
        ),
    ],
    "of the list only what is committed is read": [
        (
            parking_relay(RoleParts(reader=roles_without_rules.ReadsUncommittedEntries)),
            {"relayed twice", "relayed out of order", "stuck"},
        ),
    ],
    "a redrive ends the entry in the transaction with what it emits": [
        (
            parking_relay(RoleParts(relay=roles_without_rules.RedrivesInTwoSteps)),
            {"relayed twice"},
        ),
    ],
    "what is redone after a refusal begins from what is committed": [
        (
            refused_relay(RoleParts(relay=roles_without_rules.RedoesWithWhatItHasInMemory)),
            {"not relayed", "relayed twice", "relayed out of order", "stuck"},
        ),
    ],
    "a discard is held to its event": [
        (
            parking_relay(RoleParts(parking=roles_without_rules.DiscardsWhateverIsFirst)),
            {"discarded unasked"},
        ),
    ],
    "a discard of what evolve raises on marks the event itself": [
        (
            parking_snapshots(RoleParts(events=roles_without_rules.DiscardsInTheListOnly)),
            {"stuck"},
        ),
    ],
    "a discard is in the log before its event is marked": [
        (
            parking_snapshots(RoleParts(snapshots=roles_without_rules.MarksBeforeItLogs)),
            {"a mark without its record"},
        ),
        (
            parking_snapshots(
                RoleParts(snapshot_parking=roles_without_rules.KeepsParkedInTheStore)
            ),
            {"a mark without its record"},
        ),
    ],
    "snapshot notes what it parks before it moves its offset": [
        (
            parking_snapshots(
                RoleParts(snapshot_parking=roles_without_rules.ParksSnapshotsAfterItsOffset)
            ),
            {"store is behind"},
        ),
    ],
    "only committed records are consumed": [
        (chain(RoleParts(reads_uncommitted=True)), {"relayed twice"}),
    ],
}
CASES = [
    pytest.param(scenario, kinds, id=f"{rule}, {'+'.join(scenario.roles)} {i}")
    for rule, cases in RULES.items()
    for i, (scenario, kinds) in enumerate(cases)
]


@pytest.mark.parametrize(("scenario", "kinds"), CASES)
def test_without_the_rule_an_invariant_breaks(
    scenario: RoleScenario, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.roles.append.Plan", scenario.parts.plan)
    monkeypatch.setattr("eventfleet.roles.append.PlacingPlan", scenario.parts.placing)
    if not scenario.parts.minds_offsets:
        monkeypatch.setattr("eventfleet.roles.takeover._check_offset", let_pass)
    first = next(violations(scenario, SEEDS), None)
    assert first is not None, f"nothing broke in {len(SEEDS)} schedules"
    assert first.kind in kinds, first
