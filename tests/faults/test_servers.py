"""Servers that are killed (-9) and started again under load, or that refuse to write."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import check
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet
from tests.faults.load import EventLoad
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB

PLACES = ("append-1", "append-2", "snapshot-1", "relay-1")
RATE, ORDERS = 80, 15_000
WRITES = ("insert", "update", "bulkWrite")
READS = ("find", "getMore", "aggregate")
Failure = dict[str, object]

pytestmark = pytest.mark.faults


def survived(fleet: Fleet, what: str, harm: Callable[[FleetSupervisor], None], times: int) -> None:
    """Under load, do this harm so many times; then all must be as without."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    with EventLoad(fleet.kafka.address, RATE, ORDERS) as load:
        for _ in range(times):
            supervisor.wait_for_progress()
            harm(supervisor)
            supervisor.wait_until_owned()
        supervisor.wait_for_progress()
        sent = load.stop()
    numbers = check(fleet, sent)
    print(
        f"\n{what}: {times}; partitions opened again: {supervisor.metric('retries_total'):g}; "
        f"workers that ended: {supervisor.restarts}; resent: {load.repeats}\n{numbers}"
    )


def test_a_mongodb_that_is_killed(kafka: str, own_mongo: RefusingMongoDB, tmp_path: Path) -> None:
    """Away for a moment, which the driver bridges, and for longer than it waits, by turns."""
    outages = 0

    def harm(supervisor: FleetSupervisor) -> None:
        nonlocal outages
        before = supervisor.metric("retries_total")
        own_mongo.kill()
        if outages % 2:
            wait_for(lambda: supervisor.metric("retries_total") > before, "a call that failed")
        else:
            time.sleep(2)
        own_mongo.start()
        outages += 1

    with OrderFleet(kafka, own_mongo.url, tmp_path) as fleet:
        survived(fleet, "kills of MongoDB", harm, times=6)


def test_a_kafka_that_is_killed(own_kafka: Kafka, mongo_url: str, tmp_path: Path) -> None:
    def harm(supervisor: FleetSupervisor) -> None:
        own_kafka.kill()
        time.sleep(2)
        own_kafka.start()

    with OrderFleet(own_kafka.address, mongo_url, tmp_path) as fleet:
        survived(fleet, "kills of Kafka", harm, times=3)


CONNECTION_CUT: Failure = {"closeConnection": True}
NO_MAJORITY: Failure = {
    "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}
}


def with_codes(*codes: int) -> list[Failure]:
    return [{"errorCode": code} for code in codes]


@pytest.mark.parametrize(
    ("commands", "failures"),
    [
        pytest.param(WRITES, [CONNECTION_CUT] * 4, id="connection cut"),
        pytest.param(WRITES, [NO_MAJORITY] * 4, id="majority not reached"),
        pytest.param(WRITES, with_codes(189, 11602, 10107, 13435), id="stepping down"),
        pytest.param(READS, with_codes(91, 11600, 43, 262), id="shutting down, cursors lost"),
        pytest.param(WRITES, with_codes(14031, 14031), id="disk full"),
    ],
)
def test_calls_that_are_refused(
    kafka: str,
    own_mongo: RefusingMongoDB,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    commands: Sequence[str],
    failures: Sequence[Failure],
) -> None:
    """The codes are those that mongod has for it."""
    left = iter(failures)

    def harm(supervisor: FleetSupervisor) -> None:
        before = supervisor.metric("retries_total")
        with own_mongo.failing(*commands, **next(left)):
            wait_for(lambda: supervisor.metric("retries_total") > before, "a call that failed")

    what = f"times that calls were refused ({request.node.callspec.id})"
    with OrderFleet(kafka, own_mongo.url, tmp_path) as fleet:
        survived(fleet, what, harm, times=len(failures))
