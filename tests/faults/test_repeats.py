"""The same commands again and again, by the topic, while their workers are killed."""

import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from eventfleet.cli.sample_orders import sample_orders
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import NewRecord, wait_for
from tests.faults.command_oracle import ORDER_RULES, judge, read_replies
from tests.faults.command_senders import SentCommand
from tests.faults.fleet_oracle import ROUTED
from tests.faults.fleet_supervisor import FleetSupervisor, freeze, thaw

MEMORY = 60
PLACES = ("append-1", "append-2", "command-1", "command-2")
LETTERS = {"rejected": "r", "accepted": "a", "repeated": "d"}
LAWFUL = re.compile("r*([ad]d*)?")


class ShopFleet(CommandFleet):
    """Orders, by commands."""

    def __init__(self, servers: tuple[str, str, str], folder: Path) -> None:
        terms = {"MARKER_EXPIRY": str(MEMORY), "ID_MEMORY": str(MEMORY), "MARKER_LEASE": "1"}
        super().__init__(servers, folder, "eventfleet.domains.orders", **terms)
        self.environment["PYTHONPATH"] = str(ROOT)

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)

    def answered(self) -> int:
        """The number of commands that the workers have passed, and so answered."""
        return sum(self.kafka.offsets(f"{self.prefix}.orders.command", "orders.commands").values())


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[ShopFleet]:
    with ShopFleet((kafka, mongo_url, redis_url), tmp_path) as fleet:
        yield fleet


def commands(number: int) -> list[NewRecord]:
    """The sample's: some are forbidden, some are there twice."""
    ready = islice(sample_orders(number), number)
    return [
        NewRecord("orders.commands", each.event.aggregate_id.encode(), each.value) for each in ready
    ]


def sent(
    supervisor: FleetSupervisor, records: Sequence[NewRecord], kills: int, chance: random.Random
) -> int:
    """Send all; kill workers, spread over the time that it takes. How many while commands waited.

    The first is killed just after it has begun: it was frozen while the commands were sent.
    """
    fleet = supervisor.fleet
    assert isinstance(fleet, ShopFleet)
    before, hits = fleet.answered(), 0
    end = before + len(records)
    first = supervisor.workers["command-1"]
    freeze(first)
    fleet.kafka.produce(records)
    thaw(first)
    time.sleep(chance.uniform(0.0, 0.1))
    for kill in range(kills):
        due = before + len(records) * (kill - 1 + chance.random()) / kills if kill else before
        wait_for(lambda d=due: fleet.answered() >= d, "commands to be answered")
        place = f"{('command', 'append')[kill % 2]}-{chance.randint(1, 2) if kill else 1}"
        supervisor.workers[place].kill()
        hits += fleet.answered() < end
        supervisor.start(place)
    wait_for(lambda: fleet.answered() == end, "all commands to be answered")
    return hits


@pytest.mark.parametrize(
    ("number", "kills"), [(400, 1), pytest.param(10_000, 8, marks=pytest.mark.faults)]
)
def test_repeated_commands(fleet: ShopFleet, number: int, kills: int) -> None:
    """Three times, once more after FLUSHALL, and once more when no id is remembered."""
    chance = random.Random(9)
    supervisor = FleetSupervisor(fleet, *PLACES, chunk_records=min(500, number // 20))
    records = commands(number)
    hits = sum(sent(supervisor, records, kills, chance) for _ in range(3))
    fleet.redis.flushall()
    hits += sent(supervisor, records, kills, chance)
    fleet.settle("append")
    if kills > 1:
        wait_for(lambda: not fleet.redis.keys("done:*"), "ids to be forgotten")
    else:
        fleet.redis.delete(*(fleet.redis.keys("done:*") or ["none"]))
    hits += sent(supervisor, records, kills, chance)
    assert supervisor.restarts == 0
    assert hits >= 4 * kills

    answers = read_replies(fleet)
    by_id: dict[str, str] = defaultdict(str)
    for answer in answers:
        by_id[answer.command_id] += LETTERS[answer.outcome]
    told = [json.loads(record.value) for record in records]
    times = Counter(each["id"] for each in told)
    assert {name: len(found) for name, found in by_id.items()} == {
        name: 5 * n for name, n in times.items()
    }
    assert [found for found in by_id.values() if not LAWFUL.fullmatch(found)] == []
    sent_commands = [SentCommand(each["id"], each["subject"], each["type"]) for each in told]
    summary = judge(fleet, sent_commands, answers, ORDER_RULES, nothing_lost=False)
    unseen = sum("a" not in found for found in by_id.values() if "d" in found)
    print(f"\n{number} commands five times, killed {hits} times while some waited: {summary}")
    print(f"first answers lost with a killed worker, and given again: {unseen}")
    assert summary.stored == sum("d" in found for found in by_id.values())
