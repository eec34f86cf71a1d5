"""Old schema versions end to end: kept where they are stored, newest wherever they are read."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.fleet import TIMEOUT_SECONDS, Fleet
from tests.acceptance.fleet_kinds import KINDS, open_fleet
from tests.acceptance.kafka_by_hand import NewRecord
from tests.program import COMMAND

MODULE = """
from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State, every


class Weighed(Event):
    grams: int
    station: str


class Sealed(Event):
    pass


def in_grams(data):
    return {"grams": data["kilos"] * 1000}


def at_a_station(data):
    return {"station": "unknown", **data}


class Parcel(State):
    grams: int = 0
    station: str = ""
    sealed: bool = False


def evolve(parcel, event):
    match event:
        case Weighed(grams=grams, station=station):
            return replace(parcel, grams=parcel.grams + grams, station=station)
        case Sealed():
            return replace(parcel, sealed=True)


parcels = Domain(
    "parcels",
    state=Parcel,
    evolve=evolve,
    events=[Weighed, Sealed],
    upcasters={Weighed: [in_grams, at_a_station]},
    snapshot=every(3),
    routes=[Route("parcels.heavy", when=lambda event: getattr(event.data, "grams", 0) >= 2000)],
)
"""
PARCEL = "parcel-1"
OFFERED: list[tuple[str, int, dict[str, Any]]] = [
    ("Weighed", 1, {"kilos": 2}),
    ("Weighed", 2, {"grams": 2500}),
    ("Weighed", 3, {"grams": 1, "station": "north"}),
    ("Weighed", 1, {"kilos": 1}),
    ("Sealed", 1, {}),
]
NEWEST: list[tuple[str, int, dict[str, Any]]] = [
    ("Weighed", 3, {"grams": 2000, "station": "unknown"}),
    ("Weighed", 3, {"grams": 2500, "station": "unknown"}),
    ("Weighed", 3, {"grams": 1, "station": "north"}),
    ("Weighed", 3, {"grams": 1000, "station": "unknown"}),
    ("Sealed", 1, {}),
]


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A team's own domain, and events of all its ages in it."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "parcels.py").write_text(MODULE)
    with open_fleet(request, folder, "parcels", partitions=2) as fleet:
        (worker,) = fleet.start("append snapshot relay")
        fleet.kafka.produce(map(written, range(len(OFFERED))))
        fleet.settle()
        assert worker.stop() == 0
        yield fleet


def written(index: int) -> NewRecord:
    name, schema_version, data = OFFERED[index]
    event = {
        "specversion": "1.0",
        "id": f"event-{index + 1}",
        "type": name,
        "source": "parcels",
        "subject": PARCEL,
        "time": f"2024-03-01T10:00:0{index}Z",
        "schemaversion": schema_version,
        "data": data,
    }
    return NewRecord("parcels.events", PARCEL.encode(), json.dumps(event).encode())


def described(events: list[dict[str, Any]]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(event["type"], event.get("schemaversion", 1), event["data"]) for event in events]


def test_the_stored_document_keeps_the_old_payload(fleet: Fleet) -> None:
    stored = fleet.events.find({"aggregate_id": PARCEL}).sort("version", 1)
    assert [(event["type"], event["schema_version"], event["data"]) for event in stored] == OFFERED


def test_the_stored_record_keeps_the_old_payload(fleet: Fleet) -> None:
    assert described(fleet.topic_events("stored")) == OFFERED


def test_replay_sees_only_the_newest(fleet: Fleet) -> None:
    at_four = fleet.json("state", "parcels", PARCEL, "--version", "4")["state"]
    assert at_four == {"grams": 5501, "station": "unknown", "sealed": False}
    latest = fleet.json("state", "parcels", PARCEL)["state"]
    assert latest == {"grams": 5501, "station": "unknown", "sealed": True}


def test_the_snapshot_worker_sees_only_the_newest(fleet: Fleet) -> None:
    snapshot = fleet.topic_events("snapshots")[-1]
    grams = [data.get("grams", 0) for _, _, data in NEWEST[: snapshot["version"]]]
    assert snapshot["version"] >= 3
    assert snapshot["state"]["grams"] == sum(grams)


def test_the_relay_and_its_route_see_only_the_newest(fleet: Fleet) -> None:
    """The route's condition is on a field that the first schema did not have."""
    assert described(fleet.topic_events("heavy")) == NEWEST[:2]


def test_the_query_shows_only_the_newest(fleet: Fleet) -> None:
    printed = fleet.run("events", "parcels", PARCEL, "--json")
    assert described([json.loads(line) for line in printed.splitlines()]) == NEWEST


def test_the_audit_takes_old_and_new_for_the_same(fleet: Fleet) -> None:
    report = fleet.json("audit", "parcels")
    counts = ("stored", "aggregates", "snapshots", "relayed", "dead_letters")
    assert [report[name] for name in counts] == [5, 1, 1, 2, 0]
    assert report["violations"] == []


@pytest.mark.parametrize("process", ["worker append", "serve"])
def test_no_process_starts_with_a_class_that_does_not_read_what_is_stored(
    fleet: Fleet, process: str
) -> None:
    changed = MODULE.replace("    station: str\n", "    station: str\n    scale: str\n")
    (fleet.folder / "changed_parcels.py").write_text(changed)
    done = subprocess.run(
        [*COMMAND, *process.split()],
        env=fleet.environment
        | {"EVENTFLEET_DOMAINS": "changed_parcels", "EVENTFLEET_HTTP_PORT": "0"},
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    problem = "domain parcels: event Weighed, schema version 3: field `scale` is new"
    assert (done.returncode, problem in done.stderr) == (1, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
