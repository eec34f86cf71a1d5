"""Records are removed before roles have read them: told, and the way back of operators' page."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.kafka_by_hand import NewRecord, wait_for
from tests.acceptance.page_operator import Operator, blocks

END = -1
ROLES = ("append", "command", "snapshot", "relay", "project")
SOURCES = {"append": "events", "command": "commands"}


COMMANDS = {"Place": {"customer": "a", "total": 1, "currency": "EUR"}, "Pay": {"amount": 1}}
ROUTE = "finance.ledger"


@pytest.fixture
def operator(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[Operator]:
    servers, module = (kafka, mongo_url, redis_url), "eventfleet.domains.orders"
    with CommandFleet(servers, tmp_path, module, PARTITIONS="1") as fleet:
        operator = Operator(fleet, " ".join(ROLES))
        operator.run("start-workers")
        try:
            operator.until_ready()
            yield operator
        finally:
            with suppress(ProcessLookupError):
                os.kill(int(operator.pid), signal.SIGKILL)


class Removal:
    """A fleet of `orders`, from whose topics records are removed."""

    def __init__(self, operator: Operator) -> None:
        self.operator, self.fleet = operator, operator.fleet
        # Other fleets of `orders` write to the same ROUTE.
        self.before, self.unrelayed, self.after = (uuid.uuid4().hex for _ in range(3))

    def send(self, aggregate_id: str) -> None:
        """Send the commands of an aggregate by the log."""
        for command, data in COMMANDS.items():
            envelope = {
                "specversion": "1.0",
                "id": uuid.uuid4().hex,
                "source": "orders",
                "type": command,
                "subject": aggregate_id,
                "time": "2026-01-01T00:00:00.000Z",
                "data": data,
            }
            value, topic = json.dumps(envelope).encode(), self.fleet.topic("commands")
            self.fleet.kafka.produce([NewRecord(topic, aggregate_id.encode(), value)])

    def is_appended(self, aggregate_id: str) -> bool:
        events = [event["subject"] for event in self.fleet.topic_events("stored")]
        return events.count(aggregate_id) == len(COMMANDS)

    def is_relayed(self, aggregate_id: str) -> bool:
        return aggregate_id.encode() in {r.key for r in self.fleet.kafka.records(ROUTE)}

    def has_row(self, aggregate_id: str) -> bool:
        [page] = self.fleet.json_lines("view", "orders", "orders")
        return aggregate_id in {row["aggregate_id"] for row in page["rows"]}

    def passes(self, aggregate_id: str) -> None:
        """Wait until all roles have taken an aggregate's events."""
        self.send(aggregate_id)
        wait_for(lambda: self.is_relayed(aggregate_id), "relay")
        wait_for(lambda: self.has_row(aggregate_id), "project")

    def leave_unread(self) -> None:
        """Let each role have records before it while no worker runs."""
        [worker] = self.fleet.start("append command")
        self.send(self.unrelayed)
        wait_for(lambda: self.is_appended(self.unrelayed), "append")
        assert worker.stop() == 0
        self.send("unread")
        self.fleet.kafka.produce([NewRecord(self.fleet.topic("events"), b"unread", b"{}")])

    def offsets(self) -> dict[str, Any]:
        found = {}
        for role in ROLES:
            topic = self.fleet.topic(SOURCES.get(role, "stored"))
            found[role] = self.fleet.kafka.offsets(self.fleet.group(role), topic)
        return found


def test_removed_records_stop_the_roles_that_had_not_read_them(operator: Operator) -> None:
    see, do, rebuild, well = blocks("Removed records")
    removal, fleet = Removal(operator), operator.fleet
    removal.passes(removal.before)
    operator.run("stop-workers")
    removal.leave_unread()
    before = removal.offsets()
    for kind in ("events", "stored", "commands"):
        fleet.kafka.truncate(fleet.topic(kind), {0: END})

    operator.run("start-workers")
    for role in ROLES:
        operator.until_told(f"{role} of orders, partition 0 is stopped: the group's offset")
    seen = operator.run(see)
    assert seen.count("were removed before this role had read them") == len(ROLES)
    stopped = operator.run("""curl -s "$WORKER/metrics" | grep '^eventfleet_stopped{.* 1.0'""")
    assert len(stopped.splitlines()) == len(ROLES)
    assert removal.offsets() == before

    operator.run(do)
    operator.run(rebuild, VIEW="orders")
    removal.passes(removal.after)
    assert removal.has_row(removal.unrelayed)
    assert not removal.is_relayed(removal.unrelayed)
    assert "  clean" in operator.run(well)
