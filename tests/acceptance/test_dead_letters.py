"""Poison events on a fleet of real processes: parked, told, redriven after the mend, discarded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import wait_for

ROWS = [
    *(("a", "1"), ("a", "poison 2"), ("b", "3"), ("a", "4"), ("c", "poison 5"), ("b", "6")),
    ("c", "7"),
]


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    fleet = CommandFleet((kafka, mongo_url, redis_url), tmp_path, "tests.acceptance.poisoned")
    fleet.environment["PYTHONPATH"] = str(ROOT)
    with fleet:
        yield fleet


def load(fleet: CommandFleet, *rows: tuple[str, str]) -> None:
    lines = [f"{key},Noted,2025-01-02T03:04:05Z,{text}" for key, text in rows]
    header = "case:concept:name,concept:name,time:timestamp,text"
    fleet.load("\n".join([header, *lines, ""]))


def relayed(fleet: CommandFleet, aggregate_id: str) -> list[str]:
    events = fleet.topic_events("out")
    return [each["data"]["text"] for each in events if each["subject"] == aggregate_id]


def state(fleet: CommandFleet, aggregate_id: str) -> Any:
    return fleet.json("state", "poisoned", aggregate_id)["state"]["texts"]


def view(fleet: CommandFleet, table: str) -> dict[str, Any] | None:
    """The rows by aggregate; None until the view is built."""
    done = fleet._invoke("view", "poisoned", table, "--json")
    rows = json.loads(done.stdout)["rows"] if done.exit_code == 0 else None
    return rows and {each.get("aggregate_id", ""): each["row"] for each in rows}


def await_views(fleet: CommandFleet, **texts: list[str]) -> None:
    """Wait until the view has these texts, and its totals are those of its rows."""
    rows = {key: {"texts": found} for key, found in texts.items()}
    size = {"aggregates": len(rows), "texts": sum(map(len, texts.values()))}
    wait_for(lambda: view(fleet, "notes") == rows, f"the rows to be {rows}")
    wait_for(lambda: view(fleet, "sizes") == {"": {"kind": "notes"} | size}, f"totals to be {size}")


def parked(fleet: CommandFleet) -> list[tuple[str, str, int]]:
    found = fleet.json("deadletters", "list", "poisoned")["dead_letters"]
    return [(each["role"], each["aggregate_id"], each["first"]) for each in found]


def test_poison_is_parked_redriven_after_the_mend_and_discarded(fleet: CommandFleet) -> None:
    [worker] = fleet.start("append snapshot relay project")
    load(fleet, *ROWS)
    fleet.settle("append", "snapshot", "relay", "project")

    # Other aggregates flow, and what is parked is told.
    assert relayed(fleet, "b") == ["3", "6"]
    assert (relayed(fleet, "a"), relayed(fleet, "c")) == (["1"], [])
    await_views(fleet, a=["1"], b=["3", "6"])
    assert parked(fleet) == [
        ("project", "a", 2),
        ("project", "c", 1),
        ("relay", "a", 2),
        ("relay", "c", 1),
        ("snapshot", "a", 2),
        ("snapshot", "c", 1),
    ]
    status, ready = worker.get("/ready")
    assert (status, ready.count("LookupError: no such text") >= 3) == (200, True)
    assert "poisoned.py" in fleet.run("deadletters", "show", "poisoned", "relay", "a")
    letters = fleet.kafka.records(fleet.topic("dead-letters"))
    assert len(letters) == 6

    # What fails again stays parked.
    assert fleet.json("deadletters", "redrive", "poisoned", "--aggregate", "a")["requested"] == 3
    wait_for(
        lambda: (
            {
                each["attempts"]
                for each in fleet.json("deadletters", "list", "poisoned", "--aggregate", "a")[
                    "dead_letters"
                ]
            }
            == {2}
        ),
        "the attempts to be counted",
    )

    # A discard, before any mend.
    discard = "deadletters", "discard", "poisoned"
    for role in ("project", "relay", "snapshot"):
        fleet.run(*discard, role, "c", "--version", "1", "--why", "a mistake", "--by", "ann")
    wait_for(lambda: {key for _, key, _ in parked(fleet)} == {"a"}, "c to be discarded")
    assert (relayed(fleet, "c"), state(fleet, "c")) == (["7"], ["7"])
    await_views(fleet, a=["1"], b=["3", "6"], c=["7"])
    first, _ = fleet.run("events", "poisoned", "c", "--json").splitlines()
    assert json.loads(first)["discarded"]

    # The mended code is deployed, and one command redrives all of a reason.
    assert worker.stop() == 0
    fleet.environment["MENDED"] = "1"
    fleet.start("append snapshot relay project")
    asked = fleet.json("deadletters", "redrive", "poisoned", "--reason", "LookupError")
    assert asked["requested"] == 3
    wait_for(lambda: parked(fleet) == [], "all to be redriven")
    assert (relayed(fleet, "a"), state(fleet, "a")) == (["1", "poison 2", "4"],) * 2
    load(fleet, ("a", "8"))
    fleet.settle("append", "snapshot", "relay", "project")
    assert relayed(fleet, "a")[-1] == "8"
    await_views(fleet, a=["1", "poison 2", "4", "8"], b=["3", "6"], c=["7"])
