"""Partitions change hands under load: zombies, rivals, restarts, workers that come and go."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.acceptance.fleet import SOURCES, Fleet
from tests.acceptance.kafka_by_hand import run, wait_for
from tests.faults.fleet_oracle import check
from tests.faults.fleet_supervisor import (
    PARTITIONS,
    FleetSupervisor,
    OrderFleet,
    freeze_half_done,
    thaw,
)
from tests.faults.half_done_probe import owned_partitions
from tests.faults.load import EventLoad

PLACES = ("append-1", "append-2", "snapshot-1", "snapshot-2", "relay-1", "relay-2")
RATE, ORDERS = 80, 15_000

pytestmark = pytest.mark.faults


@pytest.fixture
def fleet(kafka: str, mongo_url: str, tmp_path: Path) -> Iterator[Fleet]:
    with OrderFleet(kafka, mongo_url, tmp_path) as made:
        yield made


@contextmanager
def loaded(fleet: Fleet, supervisor: FleetSupervisor, what: str) -> Iterator[None]:
    """Under load, whatever is done inside; then all must be as without, and no worker has ended."""
    with EventLoad(fleet.kafka.address, RATE, ORDERS) as load:
        supervisor.wait_for_progress()
        yield
        supervisor.wait_until_owned()
        supervisor.wait_for_progress()
        sent = load.stop()
    numbers = check(fleet, sent)
    assert supervisor.restarts == 0
    print(f"\n{what}; fenced {supervisor.metric('fenced_total'):g}\n{numbers}")


@pytest.mark.parametrize("role", SOURCES)
def test_a_zombie_that_wakes_in_the_middle_of_a_chunk(fleet: Fleet, role: str) -> None:
    """Frozen until its successor works on its partitions, a worker goes on where it was."""
    supervisor, chance = FleetSupervisor(fleet, *PLACES), random.Random(role)
    wakings = 3
    with loaded(fleet, supervisor, f"zombies of {role}: {wakings}"):
        for _ in range(wakings):
            zombie, other = (
                supervisor.workers[place] for place in chance.sample(supervisor.places_of(role), 2)
            )
            freeze_half_done(fleet, zombie, role, chance)
            try:
                wait_for(lambda w=other: len(owned_partitions(w)) == PARTITIONS, "the successor")
                wait_for(lambda w=other: w.ready(), "the successor to have opened all")
                supervisor.wait_for_progress([role])
            finally:
                thaw(zombie)
            supervisor.wait_until_owned()


def fence(fleet: Fleet, role: str, partition: int) -> None:
    """What an owner does that has not heard of its end and opens the partition once more."""
    name = f"{fleet.group(role)}-{fleet.topic(SOURCES[role])}-{partition}"

    async def rival() -> None:
        address = fleet.kafka.address
        async with AIOKafkaProducer(bootstrap_servers=address, transactional_id=name):
            pass

    run(rival())


def test_owners_fenced_by_one_that_has_no_right_to(fleet: Fleet) -> None:
    """No rebalance follows such a fence: the owner itself has to take its partition over again."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    fences = 0
    with loaded(fleet, supervisor, "fences without a rebalance: 24"):
        for _ in range(2):
            for role in SOURCES:
                for partition in range(PARTITIONS):
                    fence(fleet, role, partition)
                    fences += 1
            wait_for(
                lambda n=fences: supervisor.metric("fenced_total") >= n, "every owner to be fenced"
            )
            supervisor.wait_until_owned()


def test_a_rolling_restart(fleet: Fleet) -> None:
    """Each worker is asked to end (SIGTERM) and followed by another, one after the other."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    with loaded(fleet, supervisor, f"graceful restarts: {2 * len(PLACES)}"):
        for place in PLACES * 2:
            worker = supervisor.workers[place]
            assert worker.stop() == 0, worker.output()
            supervisor.start(place)
            supervisor.wait_until_owned()


def test_workers_that_come_and_go(fleet: Fleet) -> None:
    """A second worker of each role joins and leaves, by SIGTERM and by SIGKILL, again and again."""
    supervisor = FleetSupervisor(fleet, "append-1", "snapshot-1", "relay-1")
    rounds = 6
    with loaded(fleet, supervisor, f"guests of each role: {rounds}, every third killed"):
        for number in range(rounds):
            guests = [f"{role}-guest" for role in SOURCES]
            for place in guests:
                supervisor.start(place)
            supervisor.wait_until_owned()
            time.sleep(0.3 * number)
            for place in guests:
                guest = supervisor.workers.pop(place)
                if number % 3 == 2:
                    guest.kill()
                else:
                    assert guest.stop() == 0, guest.output()
            supervisor.wait_for_progress()
