"""Poison among many commands of a synchronous domain, whose evolve raises on it."""

from collections import Counter

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.unfoldable import POISON
from tests.faults.fleet_oracle import settle
from tests.faults.poison import Load, NewFleet, audited, numbers, parked, relayed

SOURCES = {"command": "commands", "append": "events", "relay": "stored"}
ROLES = "command append relay"


def outcomes(fleet: Fleet) -> Counter[tuple[str, str]]:
    """Count the replies by outcome and problem."""
    return Counter(
        (reply["outcome"], reply.get("problem", "")) for reply in fleet.topic_events("replies")
    )


def assert_nothing_is_parked(fleet: Fleet) -> None:
    assert not any(parked(fleet, role) for role in ("append", "relay"))


@pytest.mark.faults
def test_poison_commands_are_answered_and_nothing_is_parked(new_fleet: NewFleet) -> None:
    events, poison = numbers(EVENTS=100_000, POISON=1_000)
    with new_fleet("unfoldable") as fleet:
        load = Load(fleet, events, poison, 12, "noted", kind="commands", type="Note")
        [worker] = fleet.start(ROLES)

        # What a command leads to can't be folded.
        load.produce()
        settle(fleet, SOURCES)
        made = Counter({("accepted", ""): events - poison, ("failed", "decide-failed"): poison})
        assert outcomes(fleet) == made
        came = relayed(fleet)
        for aggregate_id, texts in load.texts.items():
            assert came[aggregate_id] == [text for text in texts if not text.startswith(POISON)]
        assert_nothing_is_parked(fleet)

        # Code that is deployed later can't fold what is stored.
        assert worker.stop() == 0
        fleet.environment["MENDED"] = "1"
        [worker] = fleet.start(ROLES)
        load.send((key, f"{POISON} later") for key in load.poisoned)
        settle(fleet, SOURCES)
        assert worker.stop() == 0
        del fleet.environment["MENDED"]
        [worker] = fleet.start(ROLES)
        load.send((key, "after it") for key in load.texts)
        settle(fleet, SOURCES)
        made += Counter({("accepted", ""): len(load.texts), ("failed", "replay-failed"): poison})
        assert outcomes(fleet) == made
        assert_nothing_is_parked(fleet)
        assert worker.process.poll() is None
        fleet.environment["MENDED"] = "1"
        audited(fleet)
        print(f"\n{made.total():,} commands, {2 * poison:,} of them answered as failed")
