"""Workers that stand still (SIGSTOP) for longer than all of their timeouts, and go on."""

import time
from pathlib import Path

import pytest

from tests.faults.fleet_oracle import check, settle
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet, freeze, thaw
from tests.faults.load import CommandLoad, EventLoad
from tests.faults.outage import OutageFleet
from tests.faults.project_fleet import ProjectFleet
from tests.faults.services import Servers

ROLES = ("command", "append", "snapshot", "relay")
RATE, ORDERS = 80, 8_000
FROZEN_SECONDS = 14.0
"""Longer than a request (10 s), a transaction (10 s) and a session (6 s) may last."""

pytestmark = pytest.mark.faults


@pytest.fixture
def servers(kafka: str, mongo_url: str, redis_url: str) -> Servers:
    return kafka, mongo_url, redis_url


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_that_is_frozen_while_nobody_takes_its_place(
    servers: Servers, tmp_path: Path, role: str
) -> None:
    """It is the only one of its role: its sessions, transactions and calls have all run out."""
    with OutageFleet(servers, tmp_path) as fleet:
        supervisor = FleetSupervisor(fleet, *(f"{each}-1" for each in ROLES))
        worker = supervisor.workers[f"{role}-1"]
        with CommandLoad(fleet.kafka.address, RATE, ORDERS) as load:
            for _ in range(2):
                supervisor.wait_for_progress(ROLES)
                freeze(worker)
                time.sleep(FROZEN_SECONDS)
                thaw(worker)
                supervisor.wait_until_owned()
            supervisor.wait_for_progress(ROLES)
            sent = load.stop()
        assert supervisor.restarts == 0
        settle(fleet, {"command": "commands"})
        print(f"\n{role} frozen twice\n{check(fleet, sent)}")


def test_workers_of_views_that_are_frozen(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        views = ProjectFleet(fleet, seed=1)
        supervisor = views.supervisor
        with EventLoad(kafka, RATE, ORDERS) as load:
            for _ in range(2):
                supervisor.wait_for_progress(["append", "project"])
                workers = [supervisor.workers[place] for place in supervisor.places_of("project")]
                for worker in workers:
                    freeze(worker)
                time.sleep(FROZEN_SECONDS)
                for worker in workers:
                    thaw(worker)
                supervisor.wait_until_owned()
            load.stop()
        assert supervisor.restarts == 0
        events, rows = views.check()
        print(f"\nproject frozen twice: {events:,} events, {rows:,} rows")
