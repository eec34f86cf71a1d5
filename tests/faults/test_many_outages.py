"""Servers that are away again and again, under load, half of the times while workers come and go.

COUNT: how often each server is killed (-9), and how often it is stopped and continued (3; the whole
run has 20). No worker may end by itself or advise a repair; a worker that is asked to stop ends
with status 0, and how long the slowest took is printed. At the end all must be as without.
"""

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import Worker
from tests.faults.answers import assert_answered
from tests.faults.fleet_oracle import ROUTED, check, settle
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.load import CommandLoad, EventLoad
from tests.faults.services import Servers
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.redis import Redis
from tests.servers.server import Server

COUNT = int(os.environ.get("COUNT", "3"))
PLACES = ("append-1", "append-2", "command-1", "command-2", "snapshot-1", "relay-1", "relay-2")
LONGEST_SECONDS, USUAL_SECONDS = 30.0, 6.0
RATE, ORDERS, PATIENCE_SECONDS = 15, 60_000, 300.0
REPAIRS = "set-offset", "eventfleet rewind", "eventfleet restore", "raise-epoch"

pytestmark = pytest.mark.faults


class OrdersFleet(CommandFleet):
    """A fleet for the orders, whose workers wait for servers at a start for as long as it takes."""

    COMMAND_SECONDS = 600.0

    def __init__(self, servers: Servers, folder: Path) -> None:
        super().__init__(servers, folder, "eventfleet.domains.orders", START_TIMEOUT="600")

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)


class Outages:
    """Outages of one server, of drawn lengths; every other one meets workers that come and go."""

    def __init__(self, server: Server, supervisor: FleetSupervisor, seed: int) -> None:
        self._server, self._supervisor = server, supervisor
        self._chance = random.Random(seed)
        self.seconds: list[float] = []
        self.stop_seconds: list[float] = []

    def run(self, kill: bool) -> None:
        """One outage; then wait until every partition has its owner again."""
        seconds = min(LONGEST_SECONDS, 0.5 + self._chance.expovariate(1 / USUAL_SECONDS))
        place = self._chance.choice(PLACES)
        moves = len(self.seconds) % 2 == 1
        self._server.kill() if kill else self._server.signal(signal.SIGSTOP)
        leaving = None
        if moves:
            time.sleep(self._chance.uniform(0, seconds / 2))
            leaving, began = self._supervisor.workers[place], time.monotonic()
            leaving.process.terminate()
            self._supervisor.start(place)
        back_at = time.monotonic() + seconds
        if leaving:
            self._wait_for_the_end(leaving, began)
        time.sleep(max(0.0, back_at - time.monotonic()))
        self._server.start() if kill else self._server.signal(signal.SIGCONT)
        self.seconds.append(seconds)
        self._supervisor.wait_until_owned()

    def _wait_for_the_end(self, leaving: Worker, began: float) -> None:
        """It ends while the server is away."""
        assert leaving.process.wait(120) == 0, leaving.output()
        self.stop_seconds.append(time.monotonic() - began)
        assert "Traceback" not in leaving.output(), leaving.output()


def survive(servers: Servers, server: Server, folder: Path, seed: int) -> None:
    with OrdersFleet(servers, folder) as fleet, ExitStack() as stack:
        supervisor = FleetSupervisor(fleet, *PLACES)
        loads = [
            kind(fleet.kafka.address, RATE, ORDERS, patience=PATIENCE_SECONDS)
            for kind in (EventLoad, CommandLoad)
        ]
        for load in loads:
            stack.enter_context(load)
        supervisor.wait_for_progress()
        outages = Outages(server, supervisor, seed)
        for number in range(2 * COUNT):
            outages.run(kill=number % 4 < 2)
            print(f"{server.name} away {number + 1}: {outages.seconds[-1]:.1f} s", flush=True)
        supervisor.wait_for_progress()
        sent = [load.stop() for load in loads]
        assert supervisor.restarts == 0
        settle(fleet, {"command": "commands"})
        assert_answered(fleet, sent[1])  # type: ignore[arg-type]
        print(check(fleet, [event for each in sent for event in each]))
        for worker in fleet.workers:
            said = worker.output()
            assert not any(repair in said for repair in REPAIRS), said
    print(
        f"{server.name}: {COUNT} kills, {COUNT} stops, {sum(outages.seconds):.0f} s away in all, "
        f"{max(outages.seconds):.1f} at most; {len(outages.stop_seconds)} workers stopped "
        f"meanwhile, the slowest within {max(outages.stop_seconds):.1f} s"
    )


def test_a_kafka_that_is_away_again_and_again(
    own_kafka: Kafka, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    survive((own_kafka.address, mongo_url, redis_url), own_kafka, tmp_path, seed=1)


def test_a_store_that_is_away_again_and_again(
    kafka: str, own_mongo: RefusingMongoDB, redis_url: str, tmp_path: Path
) -> None:
    survive((kafka, own_mongo.url, redis_url), own_mongo, tmp_path, seed=2)


def test_a_redis_that_is_away_again_and_again(
    kafka: str, mongo_url: str, own_redis: Redis, tmp_path: Path
) -> None:
    survive((kafka, mongo_url, own_redis.url), own_redis, tmp_path, seed=3)
