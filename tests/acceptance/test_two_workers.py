"""Two append workers share the partitions of a domain."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for

CASES, STEPS = 60, 5
HEADER = "case:concept:name,concept:name,time:timestamp\n"
ROWS = HEADER + "".join(
    f"case-{case},step {step},2024-03-01T10:0{step}:00Z\n"
    for step in range(1, STEPS + 1)
    for case in range(CASES)
)


class TwoWorkersRun:
    """The fleet with all rows in it, and its append workers."""

    def __init__(self, fleet: Fleet, workers: list[Worker]) -> None:
        self.fleet, self.workers = fleet, workers


@pytest.fixture(scope="module")
def loaded(
    kafka: str, mongo_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoWorkersRun]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(kafka, mongo_url, folder, "eventfleet.domains.process_log") as fleet:
        workers = fleet.start("append", "append")
        wait_for(lambda: shared(workers), "each to own half of the partitions")
        fleet.load(ROWS)
        fleet.settle("append")
        yield TwoWorkersRun(fleet, workers)


def shared(workers: list[Worker]) -> bool:
    return [worker.metric("assigned_partitions") for worker in workers] == [2, 2]


def test_each_stored_some_and_both_stored_all(loaded: TwoWorkersRun) -> None:
    counts = [
        worker.metric("stored_total", domain="process_log", role="append")
        for worker in loaded.workers
    ]
    assert min(counts) > 0
    assert sum(counts) == loaded.fleet.events.count_documents({}) == CASES * STEPS


def test_each_case_has_its_events_once_in_order(loaded: TwoWorkersRun) -> None:
    found: dict[str, list[Any]] = defaultdict(list)
    for event in loaded.fleet.topic_events("stored"):
        found[event["subject"]].append((event["version"], event["type"]))
    steps = [(version, f"step {version}") for version in range(1, STEPS + 1)]
    assert found == {f"case-{case}": steps for case in range(CASES)}
