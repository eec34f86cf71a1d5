"""A store that is set back to an older copy goes on after `restore`, or after `rewind`."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.fleet import HASTY_PATH, Fleet
from tests.acceptance.kafka_by_hand import wait_for

HEADER = "case:concept:name,concept:name,time:timestamp\n"
CASES = 20


def rows(*steps: int) -> str:
    return HEADER + "".join(
        f"case-{case},step {step},2024-03-01T10:{step:02}:00Z\n"
        for step in steps
        for case in range(CASES)
    )


class CopiedFleet:
    """A fleet of one worker for all roles, and copies of its database."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        fleet.environment["PYTHONPATH"] = HASTY_PATH
        self.start()

    def start(self) -> None:
        (self.worker,) = self.fleet.start("append snapshot relay")

    def load(self, *steps: int) -> None:
        self.fleet.load(rows(*steps))
        self.fleet.settle()

    def copy(self) -> dict[str, list[Any]]:
        database = self.fleet.database
        return {name: list(database[name].find()) for name in database.list_collection_names()}

    def set_back(self, copy: dict[str, list[Any]]) -> None:
        """Stop the worker, and put the copy in the database's place."""
        assert self.worker.stop() == 0
        for name in self.fleet.database.list_collection_names():
            self.fleet.database[name].delete_many({})
        for name, documents in copy.items():
            if documents:
                self.fleet.database[name].insert_many(documents)

    def stored(self) -> list[tuple[str, int, str]]:
        found = self.fleet.events.find().sort([("aggregate_id", 1), ("version", 1)])
        return [(e["aggregate_id"], e["version"], e["type"]) for e in found]


@pytest.fixture
def copied(kafka: str, mongo_url: str, tmp_path: Any) -> Iterator[CopiedFleet]:
    with Fleet(kafka, mongo_url, tmp_path, "eventfleet.domains.process_log", 2) as fleet:
        yield CopiedFleet(fleet)


def test_a_store_that_is_set_back_goes_on(copied: CopiedFleet) -> None:
    fleet = copied.fleet
    copied.load(1, 2)
    older = copied.copy()
    copied.load(3, 4)
    before = copied.stored()
    copied.set_back(older)

    (refused,) = fleet.begin("append")
    wait_for(lambda: "this store only up to" in refused.output(), "append to doubt the store")
    advice = "eventfleet restore process_log, or eventfleet rewind"
    wait_for(lambda: advice in refused.output(), "append to refuse the store")
    refused.stop()
    assert len(copied.stored()) == 2 * CASES

    assert "40 events restored, 40 were there" in fleet.run("restore", "process_log")
    assert copied.stored() == before
    copied.start()
    copied.load(5)
    text, report = fleet.audit()
    assert report["clean"], text
    assert report["stored"] == 5 * CASES

    copied.set_back(older)
    assert "goes on from offset" in fleet.run("rewind", "process_log")
    copied.start()
    fleet.settle()
    copied.load(6)
    assert [version for _, version, _ in copied.stored()] == [1, 2, 3, 4, 5, 6] * CASES
    text, report = fleet.audit()
    assert report["clean"], text
    assert "rewind" in text
