"""A real log through separate processes on Apache Kafka, counted and folded independently."""

import asyncio
import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from eventfleet.domains.process_log import process_log
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.mongo import open_stores
from tests.acceptance.fleet import ROOT, Fleet, Worker

RECEIPT = ROOT.parent / "shared" / "data" / "receipt.csv.gz"
CASE, ACTIVITY, TIME = "case:concept:name", "concept:name", "time:timestamp"
HEADER = f"{CASE},{ACTIVITY},{TIME}\n"
ROUTE = "process_log.activities"

pytestmark = pytest.mark.skipif(not RECEIPT.exists(), reason=f"there is no {RECEIPT.name}")

Cases = dict[str, list[dict[str, str]]]


class LoadedLog:
    """The fleet with the log in it, and what the load reported."""

    def __init__(self, fleet: Fleet, workers: list[Worker], report: Any) -> None:
        self.fleet, self.workers, self.report = fleet, workers, report


@pytest.fixture(scope="module")
def loaded(
    kafka: str, mongo_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoadedLog]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(kafka, mongo_url, folder, "eventfleet.domains.process_log") as fleet:
        workers = fleet.start("append", "append", "snapshot", "relay")
        report = fleet.json("load", str(RECEIPT), "--domain", "process_log")
        fleet.settle()
        yield LoadedLog(fleet, workers, report)


@pytest.fixture(scope="module")
def cases() -> Cases:
    """The rows of each case in file order."""
    rows: Cases = defaultdict(list)
    with gzip.open(RECEIPT, "rt", newline="", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            rows[row[CASE]].append(row)
    return rows


def test_every_row_is_accepted_and_the_audit_counts_them(loaded: LoadedLog) -> None:
    rows = ("offered", "accepted", "rejected", "repeated", "refused", "pending")
    assert [loaded.report[name] for name in rows] == [8577, 8577, 0, 0, 0, 0]
    report = loaded.fleet.json("audit", "process_log")
    counts = ("stored", "aggregates", "snapshots", "relayed", "dead_letters")
    assert [report[name] for name in counts] == [8577, 1434, 1298, 8577, 0]
    assert (report["violations"], report["clean"]) == ([], True)


def test_the_figures_hold_without_the_audit(loaded: LoadedLog) -> None:
    fleet = loaded.fleet
    assert fleet.events.count_documents({}) == 8577
    assert len(fleet.events.distinct("aggregate_id")) == 1434
    assert len(fleet.snapshots.distinct("aggregate_id")) == 1298
    published = {record.key for record in fleet.kafka.records(fleet.topic("snapshots"))}
    assert len(published) == 1298
    assert fleet.kafka.records(fleet.topic("dead-letters")) == []


def test_each_case_has_its_events_in_file_order(loaded: LoadedLog, cases: Cases) -> None:
    stored: dict[str, list[Any]] = defaultdict(list)
    for event in loaded.fleet.events.find().sort([("aggregate_id", 1), ("version", 1)]):
        stored[event["aggregate_id"]].append(event)
    assert stored.keys() == cases.keys()
    for case, rows in cases.items():
        assert [event["version"] for event in stored[case]] == list(range(1, len(rows) + 1))
        assert [event["type"] for event in stored[case]] == [row[ACTIVITY] for row in rows]
        instances = [row["concept:instance"] for row in rows]
        assert [event["data"]["concept:instance"] for event in stored[case]] == instances


def folded(rows: list[dict[str, str]]) -> dict[str, Any]:
    """The state of a case by a few lines of its own."""
    activities: dict[str, int] = {}
    attributes: dict[str, str] = {}
    for row in rows:
        activities[row[ACTIVITY]] = activities.get(row[ACTIVITY], 0) + 1
        attributes |= {k: v for k, v in row.items() if k not in (CASE, ACTIVITY, TIME) and v}
    about = {"events": len(rows), "last": rows[-1][ACTIVITY]}
    return about | {"activities": activities, "attributes": attributes}


async def latest_states(fleet: Fleet, cases: Cases) -> dict[str, Any]:
    async with open_stores(
        fleet.mongo_url, fleet.prefix, ["process_log"], timeout=30, snapshots_kept=3
    ) as stores:
        querier = Querier(process_log, stores["process_log"], SystemClock())
        found = {case: await querier.latest(case) for case in cases}
    return {case: state.data for case, state in found.items() if state}


def test_each_final_state_is_the_fold_of_its_rows(loaded: LoadedLog, cases: Cases) -> None:
    states = asyncio.run(latest_states(loaded.fleet, cases))
    assert states == {case: folded(rows) for case, rows in cases.items()}


def test_the_command_prints_that_state(loaded: LoadedLog, cases: Cases) -> None:
    case = max(cases, key=lambda each: len(cases[each]))
    printed = loaded.fleet.json("state", "process_log", case)
    rows = cases[case]
    assert printed == {"aggregate_id": case, "version": len(rows), "state": folded(rows)}


@pytest.mark.parametrize("kind", ["stored", "activities"])
def test_a_reader_of_committed_records_sees_each_event_once_in_order(
    loaded: LoadedLog, cases: Cases, kind: str
) -> None:
    records = loaded.fleet.kafka.records(loaded.fleet.topic(kind))
    events = [json.loads(record.value) for record in records]
    assert len(events) == 8577
    assert max(Counter(event["id"] for event in events).values()) == 1
    versions: dict[str, list[int]] = defaultdict(list)
    for record, event in zip(records, events, strict=True):
        assert record.key == event["subject"].encode()
        versions[event["subject"]].append(event["version"])
    assert versions == {case: list(range(1, len(rows) + 1)) for case, rows in cases.items()}
    assert {record.partition for record in records} == {0, 1, 2, 3}


def test_a_second_load_stores_nothing(loaded: LoadedLog) -> None:
    report = loaded.fleet.json("load", str(RECEIPT), "--domain", "process_log")
    assert [report[name] for name in ("offered", "accepted", "repeated")] == [8577, 0, 8577]
    loaded.fleet.settle()
    assert loaded.fleet.events.count_documents({}) == 8577
    assert len(loaded.fleet.kafka.records(loaded.fleet.topic("stored"))) == 8577
    assert len(loaded.fleet.kafka.records(ROUTE)) == 8577


def test_a_log_with_true_duplicate_rows_keeps_them(loaded: LoadedLog) -> None:
    same = "twice,Check,2024-03-01T10:00:00Z\n"
    report = loaded.fleet.load(HEADER + same + "twice,Sign,2024-03-01T11:00:00Z\n" + same + same)
    assert (report["accepted"], report["repeated"]) == (4, 0)
    again = loaded.fleet.load(HEADER + same + "twice,Sign,2024-03-01T11:00:00Z\n" + same + same)
    assert (again["accepted"], again["repeated"]) == (0, 4)
    stored = loaded.fleet.events.find({"aggregate_id": "twice"}).sort("version", 1)
    assert [event["type"] for event in stored] == ["Check", "Sign", "Check", "Check"]
