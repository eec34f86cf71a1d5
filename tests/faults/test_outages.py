"""A server that is away for minutes: the fleet waits, says so, and goes on when it is back.

OUTAGE_SECONDS: how long (120). OUTAGE_RATE: the load in events a second, as many as the fleet can
take in. No process may end, nor keep more and more in memory; roles that need nothing of the server
go on; within RETURN_SECONDS of the return each role does as much as before.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.http_service import serving
from tests.faults.answers import assert_answered
from tests.faults.fleet_oracle import check, settle
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.load import CommandLoad, EventLoad
from tests.faults.outage import OUTAGE_SECONDS, OutageCase, OutageFleet, OutageObserver
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.redis import Redis

RATE = int(os.environ.get("OUTAGE_RATE", "300"))
ORDERS = int(RATE * (OUTAGE_SECONDS + 300)) // 3  # each leads to more than three events
PATIENCE_SECONDS = OUTAGE_SECONDS + 90
MAX_GROWTH = 1.05
MIN_THROUGHPUT = 0.9

pytestmark = pytest.mark.faults


def survive(fleet: OutageFleet, case: OutageCase, places: Sequence[str], commands: bool) -> None:
    """Half of the load comes as commands, if there are any. At the end all must be as without."""
    kafka = fleet.kafka.address
    supervisor = FleetSupervisor(fleet, *places)
    rate = RATE // 2 if commands else RATE
    with ExitStack() as stack:
        service = stack.enter_context(serving(fleet.environment, fleet.folder))
        loads = [EventLoad(kafka, rate, ORDERS, patience=PATIENCE_SECONDS)]
        if commands:
            loads.append(CommandLoad(kafka, rate, ORDERS, patience=PATIENCE_SECONDS))
        for load in loads:
            stack.enter_context(load)
        supervisor.wait_for_progress()
        observer = OutageObserver(supervisor, service, case)
        outage = observer.go_through()
        supervisor.wait_for_progress()
        sent = [load.stop() for load in loads]
        observer.catch_up()
    print(f"\n{case.name} away for {OUTAGE_SECONDS:g} s at {RATE} events/s: {outage}")
    assert supervisor.restarts == 0
    if commands:
        settle(fleet, {"command": "commands"})
        assert_answered(fleet, sent[1])
    print(check(fleet, [event for each in sent for event in each]))
    assert max(outage.grown.values()) <= MAX_GROWTH
    for role, rate_before in outage.before.items():
        assert outage.after[role] >= MIN_THROUGHPUT * rate_before, role
    for role, comes in case.goes_on.items():
        assert outage.during[role] >= MIN_THROUGHPUT * comes, role
    assert bool(outage.drained) == bool(case.drains)


def test_a_mongodb_that_is_away(
    kafka: str, own_mongo: RefusingMongoDB, redis_url: str, tmp_path: Path
) -> None:
    case = OutageCase("MongoDB", own_mongo, waits="append", drains="relay")
    places = ("append-1", "append-2", "snapshot-1", "relay-1", "relay-2")
    with OutageFleet((kafka, own_mongo.url, redis_url), tmp_path) as fleet:
        survive(fleet, case, places, commands=False)


def test_a_kafka_that_is_away(
    own_kafka: Kafka, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    case = OutageCase("Kafka", own_kafka, waits="relay", is_queried=True)
    places = ("append-1", "snapshot-1", "relay-1", "relay-2")
    with OutageFleet((own_kafka.address, mongo_url, redis_url), tmp_path) as fleet:
        survive(fleet, case, places, commands=False)


def test_a_redis_that_is_away(kafka: str, mongo_url: str, own_redis: Redis, tmp_path: Path) -> None:
    """It comes back empty."""
    events_only = float(RATE // 2)
    goes_on = dict.fromkeys(("append", "snapshot", "relay"), events_only)
    case = OutageCase("Redis", own_redis, waits="command", goes_on=goes_on, is_queried=True)
    places = ("command-1", "command-2", "append-1", "snapshot-1", "relay-1")
    with OutageFleet((kafka, mongo_url, own_redis.url), tmp_path) as fleet:
        survive(fleet, case, places, commands=True)
