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

from eventfleet.cli.sample_orders import sample
from tests.acceptance.command_fleet import Commanded
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import Written, wait_for
from tests.faults.command_oracle import ORDERS, judge, replies
from tests.faults.command_senders import Asked
from tests.faults.fleet_supervisor import Tended, freeze, thaw

MEMORY = 60
PLACES = ("append-1", "append-2", "command-1", "command-2")
LETTERS = {"rejected": "r", "accepted": "a", "repeated": "d"}
LAWFUL = re.compile("r*([ad]d*)?")


class Shop(Commanded):
    """Orders, by commands."""

    def __init__(self, servers: tuple[str, str, str], folder: Path) -> None:
        terms = {"MARKER_EXPIRY": str(MEMORY), "ID_MEMORY": str(MEMORY), "MARKER_LEASE": "1"}
        super().__init__(servers, folder, "eventfleet.domains.orders", **terms)
        self.environment["PYTHONPATH"] = str(ROOT)

    def answered(self) -> int:
        """How many commands the workers have passed; each has its answer with that."""
        return sum(self.kafka.offsets(f"{self.prefix}.orders.command", "orders.commands").values())


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[Shop]:
    with Shop((kafka, mongo_url, redis_url), tmp_path) as fleet:
        yield fleet


def commands(number: int) -> list[Written]:
    """The sample's: some are forbidden, some are there twice."""
    ready = islice(sample(number), number)
    return [
        Written("orders.commands", each.event.aggregate_id.encode(), each.value) for each in ready
    ]


def sent(tended: Tended, records: Sequence[Written], kills: int, chance: random.Random) -> int:
    """Send all; kill workers, spread over the time that it takes. How many while commands waited.

    The first is killed just after it has begun: it was frozen while the commands were sent.
    """
    fleet = tended.fleet
    assert isinstance(fleet, Shop)
    before, hits = fleet.answered(), 0
    end = before + len(records)
    first = tended.workers["command-1"]
    freeze(first)
    fleet.kafka.produce(records)
    thaw(first)
    time.sleep(chance.uniform(0.0, 0.1))
    for kill in range(kills):
        due = before + len(records) * (kill - 1 + chance.random()) / kills if kill else before
        wait_for(lambda d=due: fleet.answered() >= d, "commands to be answered")
        place = f"{('command', 'append')[kill % 2]}-{chance.randint(1, 2) if kill else 1}"
        tended.workers[place].kill()
        hits += fleet.answered() < end
        tended.start(place)
    wait_for(lambda: fleet.answered() == end, "all commands to be answered")
    return hits


@pytest.mark.parametrize(
    ("number", "kills"), [(400, 1), pytest.param(10_000, 8, marks=pytest.mark.faults)]
)
def test_repeated_commands(fleet: Shop, number: int, kills: int) -> None:
    """Three times, once more after FLUSHALL, and once more when no id is remembered."""
    chance = random.Random(9)
    tended = Tended(fleet, *PLACES, chunk_records=min(500, number // 20))
    records = commands(number)
    hits = sum(sent(tended, records, kills, chance) for _ in range(3))
    fleet.redis.flushall()
    hits += sent(tended, records, kills, chance)
    fleet.settle("append")
    if kills > 1:
        wait_for(lambda: not fleet.redis.keys("done:*"), "ids to be forgotten")
    else:
        fleet.redis.delete(*(fleet.redis.keys("done:*") or ["none"]))
    hits += sent(tended, records, kills, chance)
    assert tended.restarts == 0
    assert hits >= 4 * kills

    answers = replies(fleet)
    by_id: dict[str, str] = defaultdict(str)
    for answer in answers:
        by_id[answer.command_id] += LETTERS[answer.outcome]
    told = [json.loads(record.value) for record in records]
    times = Counter(each["id"] for each in told)
    assert {name: len(found) for name, found in by_id.items()} == {
        name: 5 * n for name, n in times.items()
    }
    assert [found for found in by_id.values() if not LAWFUL.fullmatch(found)] == []
    asked = [Asked(each["id"], each["subject"], each["type"]) for each in told]
    verdicts = judge(fleet, asked, answers, ORDERS, nothing_lost=False)
    unseen = sum("a" not in found for found in by_id.values() if "d" in found)
    print(f"\n{number} commands five times, killed {hits} times while some waited: {verdicts}")
    print(f"first answers lost with a killed worker, and given again: {unseen}")
    assert verdicts.stored == sum("d" in found for found in by_id.values())
