"""Things are broken on purpose, each of an order of its own; one audit names them all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet
from tests.acceptance.kafka_by_hand import NewRecord, wait_for

COMMANDS: dict[str, dict[str, Any]] = {
    "Place": {"customer": "ann", "total": 1999, "currency": "EUR"},
    "Pay": {"amount": 1999},
    "Pack": {"parcels": 1},
    "Ship": {"carrier": "post"},
    "Deliver": {},
}
LEDGER = "finance.ledger"
FAULTS = {
    "deleted": "at offset {} of orders.events is not stored",
    "doubled": "version 3 is stored twice",
    "gap": "version 3 is missing, 4 follows",
    "payload": "stored version 2 differs from the event at offset",
    "snapshot": "the snapshot of version 5 is not the fold of its events",
    "missing-record": f"is missing from {LEDGER}",
    "doubled-record": f"is 2 times in {LEDGER}",
    "marker": "version 1, but version 5 is stored",
    "accepted": "command lost was accepted, its event gone is not stored",
    "unreadable": "can't be read: data.parcels: is missing",
}


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    """A fleet that has taken ten orders to their delivery, and has ended."""
    with open_command_fleet(request, tmp_path, "eventfleet.domains.orders") as fleet:
        workers = fleet.start("command append snapshot relay")
        fleet.kafka.produce(sent(order, name) for name in COMMANDS for order in FAULTS)
        total = len(COMMANDS) * len(FAULTS)
        wait_for(lambda: len(fleet.replies()) == total, "the replies")
        fleet.settle()
        assert [worker.stop() for worker in workers] == [0]
        yield fleet
        fleet.kafka.delete(["shipping.requests", "finance.ledger"])


def sent(order: str, command: str) -> NewRecord:
    envelope = {
        "specversion": "1.0",
        "id": f"{order}-{command}",
        "type": command,
        "source": "orders",
        "subject": order,
        "time": "2025-01-01T00:00:00Z",
        "data": COMMANDS[command],
    }
    return NewRecord("orders.commands", order.encode(), json.dumps(envelope).encode())


def test_each_fault_is_named_and_so_is_each_missing_topic(fleet: CommandFleet) -> None:
    faults = dict(FAULTS)
    if fleet.is_one_process:
        del faults["marker"]
    text, report = fleet.audit()
    assert report["clean"], text
    assert (report["stored"], report["unjudged"]) == (50, {})
    break_all(fleet)
    text, report = fleet.audit()
    found = {v["aggregate_id"]: "" for v in report["violations"]}
    for violation in report["violations"]:
        found[violation["aggregate_id"]] += f"{violation['fault']}\n"
    for problem in report["problems"]:
        found[problem["subject"]] = found.get(problem["subject"], "") + problem["detail"]
    assert found.keys() == faults.keys()
    for order, fault in faults.items():
        first, _, rest = fault.partition("{}")
        assert first in found[order], found[order]
        assert rest in found[order], found[order]
        assert f", {order}: " in text

    missing = [LEDGER, "orders.events", "orders.stored"]
    fleet.kafka.delete(missing)
    text, report = fleet.audit()
    problems = {problem["subject"] for problem in report["problems"] if problem["kind"] == "topic"}
    assert problems == set(missing)


def break_all(fleet: CommandFleet) -> None:
    events = fleet.events
    events.delete_one({"aggregate_id": "deleted", "version": 5})
    events.delete_one({"aggregate_id": "gap", "version": 3})
    events.drop_index("versions")
    twin = {"aggregate_id": "doubled", "version": 4}
    events.update_one(twin, {"$set": {"version": 3}})
    events.update_one({"aggregate_id": "payload", "version": 2}, {"$set": {"data.amount": 1}})
    events.update_one(
        {"aggregate_id": "unreadable", "version": 3}, {"$unset": {"data.parcels": ""}}
    )
    fleet.snapshots.update_one({"aggregate_id": "snapshot"}, {"$set": {"state.paid": 1}})
    break_route(fleet)
    if not fleet.is_one_process:
        break_marker(fleet)
    reply = {"command_id": "lost", "command": "Pay", "aggregate_id": "accepted"}
    reply |= {"outcome": "accepted", "event_id": "gone", "place": "orders.events/0"}
    fleet.kafka.produce([NewRecord("orders.replies", b"accepted", json.dumps(reply).encode())])


def break_marker(fleet: CommandFleet) -> None:
    first = fleet.events.find_one({"aggregate_id": "marker", "version": 1})
    assert first
    last = first["_id"].rpartition("\0")[2]
    fleet.change_marker("marker", last=last, type="Placed")


def break_route(fleet: CommandFleet) -> None:
    """Make the topic anew without one record, and with another one twice."""
    records = fleet.kafka.records(LEDGER)
    assert len(records) == len(FAULTS)
    of_order = {record.key.decode(): record for record in records}
    kept = [record for record in records if record.key != b"missing-record"]
    fleet.remake(LEDGER, [*kept, of_order["doubled-record"]])
