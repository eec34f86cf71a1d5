"""The same commands again and again, by the topic, while their workers are killed."""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from tests.acceptance.commanding import Commanded
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import Written, wait_for
from tests.faults.sending import Asked
from tests.faults.tending import Tended
from tests.faults.verdicts import ORDERS, judge, replies
from workers.sample import sample

MEMORY = 60
PLACES = ("append-1", "append-2", "command-1", "command-2")
LETTERS = {"rejected": "r", "accepted": "a", "repeated": "d"}
LAWFUL = re.compile("r*([ad]d*)?")


class Shop(Commanded):
    """Orders, by commands."""

    def __init__(self, servers: tuple[str, str, str], folder: Path) -> None:
        terms = {"MARKER_EXPIRY": str(MEMORY), "ID_MEMORY": str(MEMORY), "MARKER_LEASE": "1"}
        super().__init__(servers, folder, "domains.orders", **terms)
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


def sent(tended: Tended, records: Sequence[Written], kills: int, chance: random.Random) -> None:
    """Send all; kill workers, spread over the time that it takes, while commands wait."""
    fleet = tended.fleet
    assert isinstance(fleet, Shop)
    before = fleet.answered()
    fleet.kafka.produce(records)
    for kill in range(kills):
        due = before + len(records) * (kill + chance.random()) / (kills + 1)
        wait_for(lambda d=due: fleet.answered() >= d, "commands to be answered")
        place = f"{('command', 'append')[kill % 2]}-{chance.randint(1, 2)}"
        assert fleet.answered() < before + len(records), "all was over before the last kill"
        tended.workers[place].kill()
        tended.start(place)
    wait_for(lambda: fleet.answered() == before + len(records), "all commands to be answered")


@pytest.mark.parametrize(
    ("number", "kills"), [(400, 1), pytest.param(10_000, 8, marks=pytest.mark.faults)]
)
def test_repeated_commands(fleet: Shop, number: int, kills: int) -> None:
    """Three times, once more after FLUSHALL, and once more when no id is remembered."""
    chance = random.Random(9)
    tended = Tended(fleet, *PLACES, chunk_records=min(500, number // 20))
    records = commands(number)
    for _ in range(3):
        sent(tended, records, kills, chance)
    fleet.redis.flushall()
    sent(tended, records, kills, chance)
    fleet.settle("append")
    if kills > 1:
        wait_for(lambda: not fleet.redis.keys("done:*"), "ids to be forgotten")
    else:
        fleet.redis.delete(*(fleet.redis.keys("done:*") or ["none"]))
    sent(tended, records, kills, chance)
    assert tended.restarts == 0

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
    print(f"\n{number} commands five times, {5 * kills} kills: {verdicts}")
    print(f"first answers lost with a killed worker, and given again: {unseen}")
    assert verdicts.stored == sum("d" in found for found in by_id.values())
