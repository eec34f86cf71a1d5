"""Snapshots that only the passing of time makes due: nothing more happens to the aggregate."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet
from tests.acceptance.kafka_by_hand import NewRecord, wait_for

AGE = timedelta(seconds=2)
MODULE = f"""
from eventfleet import Domain, Event, State, after, every


class Measured(Event):
    value: int


class Meter(State):
    total: int = 0


def evolve(meter, event):
    return Meter(total=meter.total + event.value)


meters = Domain(
    "meters",
    state=Meter,
    evolve=evolve,
    events=[Measured],
    snapshot=every(100) | after(seconds={AGE.total_seconds():g}),
)
"""


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "meters.py").write_text(MODULE)
    with open_fleet(request, folder, "meters", partitions=1) as fleet:
        fleet.start("append", "snapshot")
        yield fleet


@pytest.fixture
def meter() -> str:
    """An aggregate of the test's own."""
    return f"meter-{uuid.uuid4().hex[:8]}"


def measure(fleet: Fleet, meter: str, *values: int) -> datetime:
    """Events that happen now; when that was."""
    now = datetime.now(UTC)
    events = [
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "type": "Measured",
            "source": "meters",
            "subject": meter,
            "time": now.isoformat(timespec="milliseconds"),
            "data": {"value": value},
        }
        for value in values
    ]
    records = [NewRecord("meters.events", meter.encode(), json.dumps(e).encode()) for e in events]
    fleet.kafka.produce(records)
    return now


def snapshots(fleet: Fleet, meter: str) -> list[dict[str, Any]]:
    return list(fleet.snapshots.find({"aggregate_id": meter}).sort("version", 1))


def snapshot_of(fleet: Fleet, meter: str, version: int) -> dict[str, Any]:
    """The newest snapshot, as soon as it is of this version."""

    def newest() -> dict[str, Any] | None:
        found = snapshots(fleet, meter)
        return found[-1] if found and found[-1]["version"] >= version else None

    return wait_for(newest, f"a snapshot of {meter} version {version}") or {}


def taken_at(snapshot: dict[str, Any]) -> datetime:
    """When it was taken; MongoDB gives a time in UTC without a zone, a file a text."""
    time = snapshot["taken_at"]
    return datetime.fromisoformat(time) if isinstance(time, str) else time.replace(tzinfo=UTC)


def published(fleet: Fleet, meter: str) -> list[tuple[int, Any]]:
    """Version and state of each of its snapshots in the topic."""
    found = [json.loads(record.value) for record in fleet.kafka.records(fleet.topic("snapshots"))]
    return [(each["version"], each["state"]) for each in found if each["aggregate_id"] == meter]


def test_a_silent_aggregate_gets_its_snapshot(fleet: Fleet, meter: str) -> None:
    """Not with its events: once the oldest of them has the rule's age."""
    measured_at = measure(fleet, meter, 1, 2, 4)
    snapshot = snapshot_of(fleet, meter, 3)
    assert taken_at(snapshot) - measured_at >= AGE
    assert (snapshot["version"], snapshot["state"]) == (3, {"total": 7})
    wait_for(lambda: published(fleet, meter), "the snapshot in the topic")
    assert published(fleet, meter) == [(3, {"total": 7})]
    assert fleet.events.count_documents({"aggregate_id": meter}) == 3


def test_time_alone_makes_no_second_snapshot(fleet: Fleet, meter: str) -> None:
    """Beside another aggregate, which is due when the first would be due again."""
    measure(fleet, meter, 1)
    first = snapshot_of(fleet, meter, 1)
    measure(fleet, f"{meter}-later", 1)
    later = snapshot_of(fleet, f"{meter}-later", 1)
    assert taken_at(later) - taken_at(first) >= AGE
    assert snapshots(fleet, meter) == [first]
    measure(fleet, meter, 1)
    assert snapshot_of(fleet, meter, 2)["state"] == {"total": 2}


def test_a_worker_that_starts_finds_aggregates_without_their_snapshot(
    fleet: Fleet, meter: str
) -> None:
    """Nothing in memory, and no record to read: they are found in the event store."""
    measure(fleet, meter, 1, 2)
    snapshot_of(fleet, meter, 2)
    fleet.settle("snapshot")
    assert fleet.workers[1].stop() == 0
    fleet.snapshots.delete_many({"aggregate_id": meter})
    fleet.start("snapshot")
    assert snapshot_of(fleet, meter, 2)["state"] == {"total": 3}
