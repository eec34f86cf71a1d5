"""Stores, groups and logs that no longer belong together: a wrong database, an older copy, a group
without offsets, a log that was made anew. Append refuses each, and goes on when it is repaired."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest

from eventfleet.topics.event import EventRecord
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import check, settle
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet
from tests.faults.load import EventLoad

PLACES = ("append-1", "append-2", "snapshot-1", "relay-1")
RATE, ORDERS = 80, 15_000
UNDER_LOAD_SECONDS = 5
TIMES = 3
Harm = Callable[[], None]

pytestmark = pytest.mark.faults


def repaired(fleet: OrderFleet, what: str, harm: Harm, refusal: str, repair: Harm) -> None:
    """Under load, by turns: stop the workers, do this harm, see append refuse, repair it, go on.

    In the end all must be as without.
    """
    with EventLoad(fleet.kafka.address, RATE, ORDERS) as load:
        for _ in range(TIMES):
            stop(fleet, run(fleet))
            harm()
            refuse(fleet, refusal)
            repair()
        run(fleet)
        sent = load.stop()
    report(fleet, what, sent)


def report(fleet: OrderFleet, what: str, sent: list[EventRecord]) -> None:
    print(f"\n{what}: {TIMES}\n{check(fleet, sent)}")


def run(fleet: OrderFleet) -> FleetSupervisor:
    """Start the workers, and leave them at work for a while."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    supervisor.wait_for_progress()
    time.sleep(UNDER_LOAD_SECONDS)
    return supervisor


def stop(fleet: OrderFleet, supervisor: FleetSupervisor) -> None:
    """Stop append, and then the others, when they have passed all that it has emitted."""
    for place in supervisor.places_of("append"):
        assert supervisor.workers[place].stop() == 0
    fleet.settle("snapshot", "relay")
    for place in ("snapshot-1", "relay-1"):
        assert supervisor.workers[place].stop() == 0


def refuse(fleet: OrderFleet, refusal: str) -> None:
    """Start an append, which must refuse with these words, and store nothing."""
    before = fleet.events.count_documents({})
    (worker,) = fleet.begin("append")
    wait_for(lambda: refusal in worker.output(), f"append to refuse: {refusal}")
    worker.stop()
    assert fleet.events.count_documents({}) == before


def test_wrong_databases(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        right, wrong = fleet.prefix, f"{fleet.prefix}x"

        def use(database: str) -> None:
            fleet.environment["EVENTFLEET_MONGO_DATABASE"] = database

        refusal = "but this store only up to 0"
        repaired(fleet, "wrong databases", lambda: use(wrong), refusal, lambda: use(right))
        with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
            assert client[wrong]["orders.events"].count_documents({}) == 0
            client.drop_database(wrong)


def test_older_copies(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        database = fleet.database
        older: dict[str, list[Any]] = {}

        def set_back() -> None:
            """Put the copy of the last time in the store's place, the first time none."""
            copy = {name: list(database[name].find()) for name in database.list_collection_names()}
            for name in copy:
                database[name].delete_many({})
            for name, documents in older.items():
                if documents:
                    database[name].insert_many(documents)
            older.clear()
            older.update(copy)

        def restore() -> None:
            assert "events restored" in fleet.run("restore", "orders")

        refusal = "the store is another one than the group"
        repaired(fleet, "older copies of the store", set_back, refusal, restore)


def test_groups_without_offsets(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    """As after their offsets expired: the groups get another prefix."""
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:

        def lose() -> None:
            fleet.prefix += "x"
            fleet.environment["EVENTFLEET_GROUP_PREFIX"] = fleet.prefix

        def set_offsets() -> None:
            assert "goes on from offset" in fleet.run("rewind", "orders")
            for role in ("snapshot", "relay"):
                (worker,) = fleet.begin(role)
                wait_for(lambda w=worker: "lost its offset" in w.output(), f"{role} to refuse")
                worker.stop()
                assert "offset" in fleet.run("topics", "set-offset", "orders", role, "latest")

        repaired(fleet, "groups without offsets", lose, "the consumer group has no", set_offsets)


def test_logs_made_anew(kafka: str, mongo_url: str, tmp_path: Path) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        sent: list[EventRecord] = []
        for _ in range(TIMES):
            with EventLoad(kafka, RATE, ORDERS, skip=len(sent)) as load:
                supervisor = run(fleet)
                sent += load.stop()
            settle(fleet)
            stop(fleet, supervisor)
            fleet.kafka.delete([fleet.topic("events")])
            fleet.run("topics", "create")
            refuse(fleet, "raise the epoch: eventfleet topics raise-epoch orders")
            fleet.run("topics", "raise-epoch", "orders")
        with EventLoad(kafka, RATE, ORDERS, skip=len(sent)) as load:
            run(fleet)
            sent += load.stop()
        report(fleet, "logs made anew", sent)
