"""Workers killed (-9) in the middle of their work."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.fleet import SOURCES, Fleet
from tests.faults.fleet_oracle import check
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet, freeze_half_done
from tests.faults.load import EventLoad

PLACES = ("append-1", "append-2", "snapshot-1", "relay-1")
RATE = 100


class Kills:
    """Kills, each of a worker that had begun a chunk and not finished it."""

    def __init__(self, supervisor: FleetSupervisor, seed: int) -> None:
        self.count: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.uncommitted: Counter[str] = Counter()
        self.looks = 0
        self._supervisor = supervisor
        self._chance = random.Random(seed)

    def strike(self, role: str) -> None:
        """Kill one worker of the role, and start another in its place at once."""
        place = self._chance.choice(self._supervisor.places_of(role))
        worker = self._supervisor.workers[place]
        fleet = self._supervisor.fleet
        hit, looks = freeze_half_done(fleet, worker, role, self._chance)
        worker.kill()
        assert hit.waiting > 0
        assert hit.open or hit.uncommitted
        self.count[role] += 1
        self.open[role] += bool(hit.open)
        self.uncommitted[role] += hit.uncommitted > 0
        self.looks += looks
        self._supervisor.start(place)

    def summary(self) -> str:
        each = [
            f"{role} {n} (open transaction {self.open[role]}, stored only {self.uncommitted[role]})"
            for role, n in self.count.items()
        ]
        return f"kills: {', '.join(each)}; moments looked at {self.looks}"


def killed(fleet: Fleet, rounds: Sequence[Sequence[str]], seed: int, orders: int) -> Kills:
    """Under load, strike these roles, round by round; then all must be as without."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    kills = Kills(supervisor, seed)
    with EventLoad(fleet.kafka.address, RATE, orders) as load:
        for roles in rounds:
            supervisor.wait_for_progress()
            for role in roles:
                kills.strike(role)
            supervisor.wait_until_owned()
        sent = load.stop()
    assert supervisor.restarts == 0
    numbers = check(fleet, sent)
    print(f"\n{kills.summary()}\n{numbers}")
    return kills


def test_one_kill_of_each_role(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        kills = killed(fleet, [["append", "snapshot", "relay"]], seed=1, orders=4_000)
    assert kills.count == {"append": 1, "snapshot": 1, "relay": 1}


@pytest.mark.faults
@pytest.mark.parametrize("seed", [11, 12])
def test_ten_kills_of_each_role(kafka: str, mongo_url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rounds = [chance.sample([*SOURCES], len(SOURCES)) for _ in range(10)]
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        kills = killed(fleet, rounds, seed, orders=25_000)
    assert all(kills.count[role] >= 10 for role in SOURCES)
