"""Synchronous commands of many services on few accounts, while services and servers are killed."""

import random
import time
from pathlib import Path

import pytest

from eventfleet.stores.mongo.documents import document_id
from eventfleet.topics.event import EventKey
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.accounts import BankFleet, check
from tests.faults.command_oracle import read_answers, read_last_note
from tests.faults.command_senders import INSERTED, SentCommand
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.services import Servers
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB

counted = pytest.mark.faults
PATIENCE = 15.0


@pytest.fixture
def servers(kafka: str, mongo_url: str, redis_url: str) -> Servers:
    return kafka, mongo_url, redis_url


class Crowd:
    """Services in numbered places, each with withdrawals of its own to send."""

    def __init__(
        self, fleet: BankFleet, places: int, withdrawals: int, width: int, pause: float = 0.0
    ) -> None:
        self.fleet, self.width = fleet, width
        each = withdrawals // places
        self.sent_commands = {n: fleet.withdrawals(f"w{n}", each, seed=n) for n in range(places)}
        self._before, self._number = len(fleet.answers()), each * places
        self.services = {
            n: fleet.service(self.sent_commands[n].values(), width, pause=pause)
            for n in self.sent_commands
        }

    def all_sent_commands(self) -> list[SentCommand]:
        return [
            each for sent_commands in self.sent_commands.values() for each in sent_commands.values()
        ]

    def wait_until_answered(self, part: float) -> None:
        """Wait until this part of all is answered, and each service has answered something."""
        due = self._before + self._number * part
        wait_for(lambda: len(self.fleet.answers()) >= due and self._begun(), "withdrawals")

    def _begun(self) -> bool:
        return all(read_answers(service.outcomes) for service in self.services.values())

    def restart(self, place: int, **plan: str | float) -> None:
        """Send by the same ids what is not decided yet, and a few of the others."""
        sent_commands = self.sent_commands[place]
        left = self.fleet.undecided(sent_commands)
        known = [each for each in list(sent_commands.values())[:20] if each not in left]
        self.services[place] = self.fleet.service([*known, *left], self.width, **plan)

    def kill(self, place: int) -> None:
        self.services[place].kill()
        self.restart(place)

    def kill_before_a_commit(self, place: int, nth: int) -> None:
        """Kill the service, and the next one between insert and commit of its nth put of several
        events: its transaction stays open."""
        self.services[place].kill()
        self.restart(place, point=INSERTED, nth=nth)
        self.services[place].wait()
        self.restart(place)

    def end(self) -> None:
        """Wait until all is decided."""
        for place in self.services:
            for _ in range(10):
                assert self.services[place].wait() == 0
                if not self.fleet.undecided(self.sent_commands[place]):
                    break
                self.restart(place)
        assert not self.fleet.undecided(
            {each.command_id: each for each in self.all_sent_commands()}
        )


@pytest.mark.parametrize(
    ("places", "withdrawals", "kills"), [(2, 400, 2), pytest.param(8, 20_000, 40, marks=counted)]
)
def test_concurrent_withdrawals_of_services_that_are_killed(
    servers: Servers, tmp_path: Path, places: int, withdrawals: int, kills: int
) -> None:
    chance = random.Random(11)
    with BankFleet(servers, tmp_path, accounts=50) as fleet:
        fleet.start("append", "append snapshot")
        fleet.open_accounts(withdrawals * 1_50 // 50)
        crowd = Crowd(fleet, places, withdrawals, width=20)
        for kill in range(kills):
            crowd.wait_until_answered((kill + chance.random()) / (kills + 1))
            place = chance.choice([n for n in crowd.services if crowd.services[n].is_alive()])
            if kill % 2:
                crowd.kill(place)
            else:
                crowd.kill_before_a_commit(place, chance.randint(1, 5))
        crowd.end()
        print(f"\n{places} services, {kills} kills: {check(fleet, crowd.all_sent_commands())}")


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=counted)])
def test_a_service_killed_between_put_and_produce(
    servers: Servers, tmp_path: Path, kills: int
) -> None:
    """Every second time no worker owns the partition until the service is dead."""
    chance = random.Random(12)
    with BankFleet(servers, tmp_path, accounts=10) as fleet:
        supervisor = FleetSupervisor(fleet, "append-1", "snapshot-1")
        fleet.open_accounts(1_000_00)
        sent_commands: dict[str, SentCommand] = {}
        waits: list[float] = []
        for kill in range(kills):
            if kill % 2:
                fleet.settle("append", "snapshot")
                supervisor.workers["append-1"].kill()
            sent_commands |= fleet.withdrawals(f"k{kill}", 30, seed=kill)
            doomed = fleet.service(
                fleet.undecided(sent_commands), 3, point="noted", nth=chance.randint(1, 5)
            )
            assert doomed.wait() == -9
            noted = read_last_note(doomed.outcomes).noted
            put = [document_id(EventKey(*each)) for each in noted.items()]
            if kill % 2:
                supervisor.start("append-1")
                supervisor.wait_until_owned()
            began = time.monotonic()
            wait_for(lambda ids=put: placed(fleet, ids), "the sweep to publish what was put")
            waits.append(time.monotonic() - began)
        assert fleet.service(fleet.undecided(sent_commands), 10).wait() == 0
        numbers = check(fleet, sent_commands.values(), limited=False)
        worst = max(waits)
        when = f"published at most {worst:.1f} s later"
        print(f"\nkilled {kills} times after a put, {when}: {numbers}")
        assert worst < PATIENCE


def placed(fleet: BankFleet, ids: list[str]) -> bool:
    """True once all of these events have their place in the log."""
    found = list(fleet.events.find({"_id": {"$in": ids}}))
    return len(found) == len(ids) and all("offset" in event for event in found)


# Servers that are stopped in the middle of requests


def told(fleet: BankFleet) -> int:
    """How many answers say that a server is away, or that the stream does not have the event."""
    return sum(a.outcome == "unavailable" or not a.published for a in fleet.answers())


def survive(fleet: BankFleet, server: Kafka | MongoDB, times: int, withdrawals: int) -> str:
    """Kill a server while services send, until somebody is told, and start it again.

    The callers pause, so that they still send when answers wait for a stream that is away.
    """
    supervisor = FleetSupervisor(fleet, "append-1", "snapshot-1")
    fleet.open_accounts(withdrawals * 1_50 // 50)
    crowd = Crowd(fleet, 2, withdrawals, width=10, pause=0.3)
    for turn in range(times):
        crowd.wait_until_answered((turn + 1) / (times + 2))
        before = told(fleet)
        server.kill()
        wait_for(lambda known=before: told(fleet) > known, "somebody to be told")
        server.start()
        supervisor.wait_until_owned()
    crowd.end()
    supervisor.wait_until_owned()
    return f"killed {times} times, told {told(fleet)}: {check(fleet, crowd.all_sent_commands())}"


@pytest.mark.parametrize(
    ("times", "withdrawals"), [(1, 400), pytest.param(5, 5_000, marks=counted)]
)
def test_a_store_that_is_killed_in_the_middle_of_requests(
    kafka: str,
    own_mongo: MongoDB,
    redis_url: str,
    tmp_path: Path,
    times: int,
    withdrawals: int,
) -> None:
    servers = kafka, own_mongo.url, redis_url
    with BankFleet(servers, tmp_path, accounts=50, MONGO_TIMEOUT="2") as fleet:
        print(f"\nstore {survive(fleet, own_mongo, times, withdrawals)}")


@pytest.mark.parametrize(
    ("times", "withdrawals"), [(1, 400), pytest.param(5, 5_000, marks=counted)]
)
def test_a_stream_that_is_killed_in_the_middle_of_requests(
    own_kafka: Kafka,
    mongo_url: str,
    redis_url: str,
    tmp_path: Path,
    times: int,
    withdrawals: int,
) -> None:
    servers = own_kafka.address, mongo_url, redis_url
    with BankFleet(servers, tmp_path, accounts=50, KAFKA_TIMEOUT="3") as fleet:
        print(f"\nstream {survive(fleet, own_kafka, times, withdrawals)}")
