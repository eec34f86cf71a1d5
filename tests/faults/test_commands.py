"""Commands through markers that expire, are flushed, or are left half done by a killed service."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.command_oracle import DOOR_RULES, CommandSummary, judge, read_last_note
from tests.faults.command_senders import KILL_POINTS, CommandAnswer, SentCommand
from tests.faults.services import ServedFleet

Servers = tuple[str, str, str]

EXPIRY = 5
counted = pytest.mark.faults


class DoorCommandFleet(ServedFleet):
    """Doors, whose events are appended."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        settings = {"MARKER_EXPIRY": str(EXPIRY), "MARKER_LEASE": "1", "ID_MEMORY": str(EXPIRY)}
        super().__init__(servers, folder, "tests.faults.doors", **settings)

    def judged(
        self, sent_commands: Iterable[SentCommand], *, nothing_lost: bool = True
    ) -> CommandSummary:
        summary = judge(self, sent_commands, self.answers(), DOOR_RULES, nothing_lost=nothing_lost)
        assert min(summary.accepted, summary.rejected) > summary.commands / 50
        return summary


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[DoorCommandFleet]:
    with DoorCommandFleet((kafka, mongo_url, redis_url), tmp_path) as fleet:
        fleet.start("append", "append")
        yield fleet


def wishes(name: str, doors: int, seed: int) -> Iterator[SentCommand]:
    """Commands of all kinds in any order, most of them forbidden; a few are sent twice."""
    chance = random.Random(seed)
    for number in count():
        door, kind = f"door-{chance.randrange(doors)}", chance.choice([*DOOR_RULES.event_of])
        command = SentCommand(f"{name}-{number}", door, kind)
        yield command
        if chance.random() < 0.03:
            yield command


def command_of(answer: CommandAnswer) -> SentCommand:
    return SentCommand(answer.command_id, answer.aggregate_id, answer.command)


def taking(what: Iterator[SentCommand], number: int) -> list[SentCommand]:
    return list(islice(what, number))


@pytest.mark.parametrize("commands", [300, pytest.param(10_000, marks=counted)])
def test_forbidden_commands_of_two_services(fleet: DoorCommandFleet, commands: int) -> None:
    sent_commands = [taking(wishes(name, commands // 40, seed=3), commands // 2) for name in "ab"]
    services = [fleet.service(each, width=40) for each in sent_commands]
    assert [service.wait() for service in services] == [0, 0]
    print(f"\nforbidden commands: {fleet.judged(sent_commands[0] + sent_commands[1])}")


@pytest.mark.parametrize("rounds", [2, pytest.param(8, marks=counted)])
def test_forbidden_commands_after_markers_have_expired(
    fleet: DoorCommandFleet, rounds: int
) -> None:
    """In each round every door is used, and then left alone until Redis knows nothing of it."""
    sources = [wishes(name, 50, seed=4) for name in "ab"]
    sent_commands: list[SentCommand] = []
    for _ in range(rounds):
        turn = [taking(source, 150) for source in sources]
        services = [fleet.service(each, width=20) for each in turn]
        assert fleet.redis.keys("marker:*") or services[0].is_alive()
        assert [service.wait() for service in services] == [0, 0]
        sent_commands += turn[0] + turn[1]
        wait_for(lambda: not fleet.redis.keys("marker:*"), "markers to expire")
        assert not fleet.redis.keys("done:*")
    print(f"\nmarkers expired {rounds} times: {fleet.judged(sent_commands)}")


@pytest.mark.parametrize("flushes", [3, pytest.param(50, marks=counted)])
def test_forbidden_commands_while_redis_is_flushed(fleet: DoorCommandFleet, flushes: int) -> None:
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
        assert all(service.is_alive() for service in services)
        standing = any(fleet.redis.hexists(key, "pend") for key in fleet.redis.keys("marker:*"))
        fleet.redis.flushall()
        done += 1
        with_notes += standing
    stop.touch()
    assert [service.wait() for service in services] == [0, 0]
    sent_commands = {answer.command_id: command_of(answer) for answer in fleet.answers()}
    summary = fleet.judged(sent_commands.values(), nothing_lost=False)
    print(f"\nflushed {done} times, with notes standing {with_notes}: {summary}")
    assert with_notes


@pytest.mark.parametrize("kills", [3, pytest.param(102, marks=counted)])
def test_services_killed_between_note_produce_and_confirm(
    fleet: DoorCommandFleet, kills: int
) -> None:
    """A second service sends to the same doors all the time. Commands that a killed service had
    not answered are sent by the same id through the next."""
    chance = random.Random(6)
    stop = fleet.folder / "stop"
    survivor = fleet.service(
        taking(wishes("s", 20, seed=6), 100_000), width=3, pause=0.05, until=str(stop)
    )
    fresh = wishes("v", 20, seed=7)
    sent_commands: dict[str, SentCommand] = {}
    counts: Counter[str] = Counter()
    while counts.total() < kills:
        open_ones = fleet.undecided(sent_commands)
        new = taking(fresh, 100)
        sent_commands |= {each.command_id: each for each in new}
        point = KILL_POINTS[counts.total() % len(KILL_POINTS)]
        service = fleet.service(open_ones + new, 5, point=point, nth=chance.randint(1, 5))
        assert service.wait() == -9
        noted = read_last_note(service.outcomes).noted
        standing = [fleet.marker(door).get("pend") == event for door, event in noted.items()]
        counts[point] += any(standing)
        assert survivor.is_alive()
    assert fleet.service(fleet.undecided(sent_commands), width=20).wait() == 0
    stop.touch()
    assert survivor.wait() == 0
    theirs = [a for a in fleet.answers() if a.command_id not in sent_commands]
    sent_commands |= {answer.command_id: command_of(answer) for answer in theirs}
    print(f"\nkilled {dict(counts)}: {fleet.judged(sent_commands.values())}")


@pytest.mark.parametrize("wins", [10, pytest.param(100, marks=counted)])
def test_two_services_racing_for_one_door(fleet: DoorCommandFleet, wins: int) -> None:
    """Each tries to open or to close it: of two that try the same at the same time, one may."""
    stop = fleet.folder / "stop"
    chance = random.Random(8)
    services = [
        fleet.service(
            [
                SentCommand(f"{name}-{n}", "door", chance.choice(["Open", "Close"]))
                for n in range(20_000)
            ],
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
    assert all(service.is_alive() for service in services)
    stop.touch()
    assert [service.wait() for service in services] == [0, 0]
    sent_commands = [command_of(answer) for answer in fleet.answers()]
    print(f"\nwins {dict(won())}: {fleet.judged(sent_commands)}")
