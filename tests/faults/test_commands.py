"""Commands through markers that expire, are flushed, or are left half done by a killed service."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.command_oracle import DOORS, Verdicts, judge, last_word
from tests.faults.command_senders import POINTS, Asked
from tests.faults.services import Served

Servers = tuple[str, str, str]

EXPIRY = 5
counted = pytest.mark.faults


class Doors(Served):
    """Doors, whose events are appended."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        settings = {"MARKER_EXPIRY": str(EXPIRY), "MARKER_LEASE": "1", "ID_MEMORY": str(EXPIRY)}
        super().__init__(servers, folder, "tests.faults.conflicting_domain", **settings)

    def judged(self, asked: Iterable[Asked], *, nothing_lost: bool = True) -> Verdicts:
        verdicts = judge(self, asked, self.answers(), DOORS, nothing_lost=nothing_lost)
        assert min(verdicts.accepted, verdicts.rejected) > verdicts.commands / 50
        return verdicts


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[Doors]:
    with Doors((kafka, mongo_url, redis_url), tmp_path) as fleet:
        fleet.start("append", "append")
        yield fleet


def wishes(name: str, doors: int, seed: int) -> Iterator[Asked]:
    """Commands of all kinds in any order, most of them forbidden; a few are sent twice."""
    chance = random.Random(seed)
    for number in count():
        door, kind = f"door-{chance.randrange(doors)}", chance.choice([*DOORS.event_of])
        asked = Asked(f"{name}-{number}", door, kind)
        yield asked
        if chance.random() < 0.03:
            yield asked


def taking(what: Iterator[Asked], number: int) -> list[Asked]:
    return list(islice(what, number))


@pytest.mark.parametrize("commands", [300, pytest.param(10_000, marks=counted)])
def test_forbidden_commands_of_two_services(fleet: Doors, commands: int) -> None:
    asked = [taking(wishes(name, commands // 40, seed=3), commands // 2) for name in "ab"]
    services = [fleet.service(each, width=40) for each in asked]
    assert [service.ended() for service in services] == [0, 0]
    print(f"\nforbidden commands: {fleet.judged(asked[0] + asked[1])}")


@pytest.mark.parametrize("rounds", [2, pytest.param(8, marks=counted)])
def test_forbidden_commands_after_markers_have_expired(fleet: Doors, rounds: int) -> None:
    """In each round every door is used, and then left alone until Redis knows nothing of it."""
    sources = [wishes(name, 50, seed=4) for name in "ab"]
    asked: list[Asked] = []
    for _ in range(rounds):
        turn = [taking(source, 150) for source in sources]
        services = [fleet.service(each, width=20) for each in turn]
        assert fleet.redis.keys("marker:*") or services[0].alive()
        assert [service.ended() for service in services] == [0, 0]
        asked += turn[0] + turn[1]
        wait_for(lambda: not fleet.redis.keys("marker:*"), "markers to expire")
        assert not fleet.redis.keys("done:*")
    print(f"\nmarkers expired {rounds} times: {fleet.judged(asked)}")


@pytest.mark.parametrize("flushes", [3, pytest.param(50, marks=counted)])
def test_forbidden_commands_while_redis_is_flushed(fleet: Doors, flushes: int) -> None:
    """FLUSHALL at moments when notes stand, while two services send without a pause."""
    chance = random.Random(5)
    stop = fleet.folder / "stop"
    services = [
        fleet.service(taking(wishes(name, 100, seed=5), 100_000), width=30, until=str(stop))
        for name in "ab"
    ]
    with_notes = done = 0
    while done < flushes:
        before = len(fleet.answers())
        wait_for(lambda b=before: len(fleet.answers()) > b + 50, "services to go on")
        time.sleep(chance.uniform(0.0, 0.1))
        assert all(service.alive() for service in services)
        standing = any(fleet.redis.hexists(key, "pend") for key in fleet.redis.keys("marker:*"))
        fleet.redis.flushall()
        done += 1
        with_notes += standing
    stop.touch()
    assert [service.ended() for service in services] == [0, 0]
    asked = {a.command_id: Asked(a.command_id, a.aggregate_id, a.command) for a in fleet.answers()}
    verdicts = fleet.judged(asked.values(), nothing_lost=False)
    print(f"\nflushed {done} times, with notes standing {with_notes}: {verdicts}")
    assert with_notes


@pytest.mark.parametrize("kills", [3, pytest.param(102, marks=counted)])
def test_services_killed_between_note_produce_and_confirm(fleet: Doors, kills: int) -> None:
    """A second service sends to the same doors all the time. What a killed one had not answered
    is asked again, by the same id, of the next."""
    chance = random.Random(6)
    stop = fleet.folder / "stop"
    survivor = fleet.service(
        taking(wishes("s", 20, seed=6), 100_000), width=3, pause=0.05, until=str(stop)
    )
    fresh = wishes("v", 20, seed=7)
    asked: dict[str, Asked] = {}
    counts: Counter[str] = Counter()
    while counts.total() < kills:
        open_ones = fleet.undecided(asked)
        new = taking(fresh, 100)
        asked |= {each.command_id: each for each in new}
        point = POINTS[counts.total() % len(POINTS)]
        service = fleet.service(open_ones + new, 5, point=point, nth=chance.randint(1, 5))
        assert service.ended() == -9
        noted = last_word(service.outcomes).noted
        standing = [fleet.marker(door).get("pend") == event for door, event in noted.items()]
        counts[point] += any(standing)
        assert survivor.alive()
    assert fleet.service(fleet.undecided(asked), width=20).ended() == 0
    stop.touch()
    assert survivor.ended() == 0
    theirs = [a for a in fleet.answers() if a.command_id not in asked]
    asked |= {a.command_id: Asked(a.command_id, a.aggregate_id, a.command) for a in theirs}
    print(f"\nkilled {dict(counts)}: {fleet.judged(asked.values())}")


@pytest.mark.parametrize("wins", [10, pytest.param(100, marks=counted)])
def test_two_services_racing_for_one_door(fleet: Doors, wins: int) -> None:
    """Each tries to open or to close it: of two that try the same at the same time, one may."""
    stop = fleet.folder / "stop"
    chance = random.Random(8)
    services = [
        fleet.service(
            [Asked(f"{name}-{n}", "door", chance.choice(["Open", "Close"])) for n in range(20_000)],
            width=1,
            until=str(stop),
        )
        for name in "ab"
    ]

    def won() -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for answer in fleet.answers():
            found[answer.command_id[0]] += answer.outcome == "accepted"
        return found

    wait_for(lambda: min(won()["a"], won()["b"]) >= wins, f"{wins} wins of each")
    assert all(service.alive() for service in services)
    stop.touch()
    assert [service.ended() for service in services] == [0, 0]
    asked = [Asked(a.command_id, a.aggregate_id, a.command) for a in fleet.answers()]
    print(f"\nwins {dict(won())}: {fleet.judged(asked)}")
