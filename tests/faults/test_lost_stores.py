"""A fleet of real processes whose store is lost: `restore`, as the guide says, has all again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.poisoned_fleet import ROWS, load, parked, relayed, state

pytestmark = pytest.mark.faults


@pytest.fixture
def poisoned(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    yield from fleet_of("poisoned", (kafka, mongo_url, redis_url), tmp_path)


@pytest.fixture
def rollout(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    yield from fleet_of("rollout", (kafka, mongo_url, redis_url), tmp_path)


def fleet_of(name: str, servers: tuple[str, str, str], folder: Path) -> Iterator[CommandFleet]:
    fleet = CommandFleet(servers, folder, f"tests.acceptance.{name}")
    fleet.environment["PYTHONPATH"] = str(ROOT)
    with fleet:
        yield fleet


def lose(fleet: CommandFleet) -> None:
    """Lose all that the store holds."""
    for name in fleet.database.list_collection_names():
        fleet.database[name].drop()


def events(fleet: CommandFleet, domain: str) -> list[Any]:
    """All events, as the feed has them."""
    lines = fleet.run("events", domain, "--all", "--json").splitlines()
    return [json.loads(line) for line in lines]


def test_discards_and_epochs_are_restored(poisoned: CommandFleet) -> None:
    fleet = poisoned
    [worker] = fleet.start("append snapshot relay project")
    load(fleet, *ROWS)
    fleet.settle("append", "snapshot", "relay", "project")
    roles = {"project", "relay", "snapshot"}
    wait_for(
        lambda: {role for role, key, _ in parked(fleet) if key == "c"} == roles, "c to be parked"
    )
    for role in sorted(roles):
        fleet.run(
            *("deadletters", "discard", "poisoned", role, "c"),
            *("--version", "1", "--why", "a mistake", "--by", "ann"),
        )
    wait_for(lambda: {key for _, key, _ in parked(fleet)} == {"a"}, "c to be discarded")
    refused = fleet.invoke("topics", "raise-epoch", "poisoned")
    assert refused.exit_code == 1  # it has members
    assert worker.stop() == 0
    refused = fleet.invoke("topics", "raise-epoch", "poisoned")
    assert (refused.exit_code, "still has what append took" in refused.output) == (1, True)
    fleet.run("rewind", "poisoned", "--partition", "0", "--offset", "0")
    [worker] = fleet.start("append snapshot relay project")
    load(fleet, ("b", "8"))
    fleet.settle("append", "snapshot", "relay", "project")
    assert worker.stop() == 0
    before, waiting, (_, audited) = events(fleet, "poisoned"), parked(fleet), fleet.audit()

    lose(fleet)
    assert "1 discarded events have their mark again" in fleet.run("restore", "poisoned")
    assert events(fleet, "poisoned") == before
    fleet.start("append snapshot relay project")
    load(fleet, ("c", "9"))
    fleet.settle("append", "snapshot", "relay", "project")
    assert parked(fleet) == waiting
    assert (relayed(fleet, "c"), state(fleet, "c")) == (["7", "9"], ["7", "9"])
    assert events(fleet, "poisoned")[-1]["position"].startswith("1-")
    text, report = fleet.audit()
    assert not report["violations"], text
    assert report["problems"] == audited["problems"], text


def send(fleet: CommandFleet, aggregate_id: str, command: str) -> str:
    asked = ("send", "rollout", aggregate_id, command, "{}", "--json")
    return str(json.loads(fleet.run(*asked).splitlines()[-1])["outcome"])


def test_accepted_events_that_append_parks_are_restored(rollout: CommandFleet) -> None:
    fleet = rollout
    fleet.environment["OLD"] = "1"
    [append] = fleet.start("append")
    del fleet.environment["OLD"]
    assert [send(fleet, "a", command) for command in ("Place", "Pack")] == ["accepted"] * 2
    fleet.settle("append")
    assert append.stop() == 0

    lose(fleet)
    assert "1 events that append parks were restored" in fleet.run("restore", "rollout")
    listed = fleet.json("deadletters", "list", "rollout")["dead_letters"]
    assert [(each["role"], each["aggregate_id"], each["first"]) for each in listed] == [
        ("append", "a", 2)
    ]
    fleet.start("append snapshot relay")
    fleet.run("deadletters", "redrive", "rollout", "--all")

    def is_placed() -> bool:
        return not fleet.json("deadletters", "list", "rollout")["dead_letters"]

    wait_for(is_placed, "the event to be placed")
    assert send(fleet, "a", "Ship") == "accepted"
    fleet.settle("append", "snapshot", "relay")
    assert [each["type"] for each in events(fleet, "rollout")] == ["Placed", "Packed", "Shipped"]
    text, report = fleet.audit()
    assert report["clean"], text
