"""A server that is away for minutes: the fleet waits, says so, and goes on when it is back.

OUTAGE_SECONDS: how long (120). No process may end, nor keep more and more in memory; within
RETURN_SECONDS of the return each role does as much as before.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from tests.acceptance.fleet import SOURCES, Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import check
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet
from tests.faults.half_done_probe import get
from tests.faults.load import EventLoad
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB

PLACES = ("append-1", "append-2", "snapshot-1", "relay-1")
RATE, ORDERS = 80, 200_000
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "120"))
SETTLING_SECONDS = min(60.0, OUTAGE_SECONDS / 2)
RETURN_SECONDS = 30.0
LOOK_SECONDS = 5.0
MAX_GROWTH = 1.05
MIN_THROUGHPUT = 0.9

pytestmark = pytest.mark.faults


@dataclass
class Outage:
    """What was seen of one outage; sizes in bytes, by process, and events a second, by role."""

    grown: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]

    def __str__(self) -> str:
        rates = "; ".join(
            f"{role}: {self.before[role]:.0f} events/s before, {self.after[role]:.0f} after"
            for role in self.before
        )
        grown = ", ".join(f"{place} {ratio:.3f}" for place, ratio in self.grown.items())
        return f"{rates}; memory at the end of the outage: {grown}"


def resident_bytes(worker: Worker) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def done(supervisor: FleetSupervisor) -> dict[str, float]:
    """The events that each role has handled, by its own counts."""
    return {
        role: sum(
            supervisor.workers[place].metric("chunk_records_sum")
            for place in supervisor.places_of(role)
        )
        for role in SOURCES
    }


def rates(supervisor: FleetSupervisor, seconds: float) -> dict[str, list[float]]:
    """Events a second by role, one number for each look."""
    seen = [done(supervisor)]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(LOOK_SECONDS)
        seen.append(done(supervisor))
    return {
        role: [(later[role] - earlier[role]) / LOOK_SECONDS for earlier, later in pairwise(seen)]
        for role in SOURCES
    }


def go_through(
    supervisor: FleetSupervisor, stop: Callable[[], None], start: Callable[[], None], role: str
) -> Outage:
    """Let a server be away, and `role` be one that waits for it. AssertionError: a process ended,
    or is to be restarted."""
    before = {role: median(each) for role, each in rates(supervisor, 20).items()}
    stop()
    began = time.monotonic()
    waits = supervisor.workers[f"{role}-1"]
    wait_for(lambda: " waits: " in get(waits, "/ready")[1], f"{role} to say that it waits")
    time.sleep(max(0.0, began + SETTLING_SECONDS - time.monotonic()))
    sizes = {place: resident_bytes(worker) for place, worker in supervisor.workers.items()}
    while time.monotonic() < began + OUTAGE_SECONDS:
        for worker in supervisor.workers.values():
            assert worker.process.poll() is None, worker.log
            assert get(worker, "/live")[0] == 200, get(worker, "/live")[1]
        time.sleep(LOOK_SECONDS)
    grown = {
        place: resident_bytes(worker) / sizes[place] for place, worker in supervisor.workers.items()
    }
    start()
    after = {role: max(each) for role, each in rates(supervisor, RETURN_SECONDS).items()}
    return Outage(grown, before, after)


def survive(
    fleet: Fleet, what: str, stop: Callable[[], None], start: Callable[[], None], role: str
) -> None:
    supervisor = FleetSupervisor(fleet, *PLACES)
    patience = OUTAGE_SECONDS + 90
    with EventLoad(fleet.kafka.address, RATE, ORDERS, patience=patience) as load:
        supervisor.wait_for_progress()
        outage = go_through(supervisor, stop, start, role)
        supervisor.wait_until_owned()
        supervisor.wait_for_progress()
        sent = load.stop()
    assert supervisor.restarts == 0
    print(f"\n{what} away for {OUTAGE_SECONDS:g} s: {outage}\n{check(fleet, sent)}")
    assert max(outage.grown.values()) <= MAX_GROWTH
    for name, rate in outage.before.items():
        assert outage.after[name] >= MIN_THROUGHPUT * rate, name


def test_a_mongodb_that_is_away(kafka: str, own_mongo: RefusingMongoDB, tmp_path: Path) -> None:
    with OrderFleet(kafka, own_mongo.url, tmp_path) as fleet:
        survive(fleet, "MongoDB", own_mongo.kill, own_mongo.start, "append")


def test_a_kafka_that_is_away(own_kafka: Kafka, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(own_kafka.address, mongo_url, tmp_path) as fleet:
        survive(fleet, "Kafka", own_kafka.kill, own_kafka.start, "relay")
