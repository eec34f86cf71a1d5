"""Poison events on a fleet of real processes: parked, told, redriven after the mend, discarded."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventfleet.topics.dead_letters import ROLE
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.poisoned_fleet import ROWS, load, parked, relayed, relayed_texts, state
from tests.acceptance.poisoned_fleet import fleet as fleet


def view(fleet: CommandFleet, table: str) -> dict[str, Any] | None:
    """The rows by aggregate; None until the view is built."""
    done = fleet.invoke("view", "poisoned", table, "--json")
    rows = json.loads(done.stdout)["rows"] if done.exit_code == 0 else None
    return rows and {each.get("aggregate_id", ""): each["row"] for each in rows}


def await_views(fleet: CommandFleet, **texts: list[str]) -> None:
    """Wait until the view has these texts, and its totals are those of its rows."""
    rows = {key: {"texts": found} for key, found in texts.items()}
    size = {"aggregates": len(rows), "texts": sum(map(len, texts.values()))}
    wait_for(lambda: view(fleet, "notes") == rows, f"the rows to be {rows}")
    wait_for(lambda: view(fleet, "sizes") == {"": {"kind": "notes"} | size}, f"totals to be {size}")


def attempts(fleet: CommandFleet) -> set[int]:
    [listed] = fleet.json_lines("deadletters", "list", "poisoned", "--aggregate", "a")
    return {each["attempts"] for each in listed["dead_letters"]}


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
    of_roles = Counter(dict(letter.headers)[ROLE].decode() for letter in letters)
    assert of_roles == {"relay": 2, "snapshot": 2, "project": 2}

    # What fails again stays parked.
    assert fleet.json("deadletters", "redrive", "poisoned", "--aggregate", "a")["requested"] == 3
    wait_for(lambda: attempts(fleet) == {2}, "the attempts to be counted")

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


def test_a_record_that_its_topic_refuses_for_its_size_parks_its_aggregate(
    fleet: CommandFleet,
) -> None:
    fleet.environment["MENDED"] = "1"
    fleet.kafka.limit(fleet.topic("out"), 3000)
    fleet.start("append snapshot relay")
    large = "x" * 5000
    # The records of a chunk are too large together, and flow all the same.
    small = [(f"k-{n}", str(n)) for n in range(100)]
    load(fleet, ("a", "1"), ("a", large), ("b", "2"), *small, ("a", "3"), ("b", "4"))
    fleet.settle("append", "snapshot", "relay")
    expected = {"a": ["1"], "b": ["2", "4"]} | {key: [text] for key, text in small}
    assert relayed_texts(fleet) == expected
    assert parked(fleet) == [("relay", "a", 2)]
    shown = fleet.run("deadletters", "show", "poisoned", "relay", "a")
    assert "RecordsTooLarge: topic poisoned.out: " in shown

    # It stays parked while the topic refuses it, and the partition goes on.
    fleet.run("deadletters", "redrive", "poisoned", "--all")
    wait_for(lambda: attempts(fleet) == {2}, "the attempts to be counted")
    fleet.kafka.limit(fleet.topic("out"), 10_000)
    fleet.run("deadletters", "redrive", "poisoned", "--all")
    wait_for(lambda: parked(fleet) == [], "all to be redriven")
    assert relayed(fleet, "a") == ["1", large, "3"]
    assert fleet.audit()[1]["clean"]


@pytest.fixture(params=KINDS)
def rollout(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    with open_command_fleet(request, tmp_path, "tests.acceptance.rollout") as fleet:
        yield fleet


def send(
    fleet: CommandFleet, aggregate_id: str, command: str, *options: str, status: int = 0
) -> dict[str, Any]:
    """The outcome of a command. This process declares all that there is."""
    asked = ("send", "rollout", aggregate_id, command, "{}", "--json", *options)
    outcome: dict[str, Any] = json.loads(fleet.run(*asked, status=status).splitlines()[-1])
    return outcome


def test_an_accepted_event_that_append_does_not_read_waits_for_its_declaration(
    rollout: CommandFleet,
) -> None:
    """A rollout in the wrong order: the commands' service is newer than append."""
    fleet = rollout
    fleet.environment["OLD"] = "1"
    [append] = fleet.start("append")
    del fleet.environment["OLD"]
    for key in ("a", "b"):
        assert send(fleet, key, "Place")["outcome"] == "accepted"
    told = send(fleet, "a", "Pack", "--wait", "appended", "--patience", "60", status=8)
    assert (told["outcome"], told["stage"]) == ("accepted", "accepted")
    assert (told["disposition"]["kind"], told["disposition"]["role"]) == ("parked", "append")
    assert "does not read Packed" in told["disposition"]["reason"]
    assert send(fleet, "b", "Ship")["outcome"] == "accepted"
    fleet.settle("append")
    shown = fleet.run("deadletters", "show", "rollout", "append", "a")
    assert "does not read Packed of schema version 1" in shown
    assert [each["type"] for each in events_of(fleet, "a")] == ["Placed"]
    assert [each["type"] for each in events_of(fleet, "b")] == ["Placed", "Shipped"]

    # A command on it is told why it can't be decided; one of another aggregate is decided.
    refused = send(fleet, "a", "Ship", status=6)
    assert (refused["outcome"], refused["problem"]) == ("unavailable", "newer-schema")
    assert "roll out append first" in refused["reason"]
    assert send(fleet, "c", "Place")["outcome"] == "accepted"

    # Check says which declaration can handle it, on the store and on a file.
    assert append.stop() == 0
    assert {each["fault"] for each in checked(fleet)} == {""}
    (fleet.folder / "rollout.jsonl").write_text(fleet.run("events", "rollout", "--all", "--json"))
    assert {each["fault"] for each in checked(fleet, "--events", "rollout.jsonl")} == {""}
    fleet.environment["OLD"] = "1"
    for options in ([], ["--events", "rollout.jsonl"]):
        [parked] = checked(fleet, *options, status=1)
        assert (parked["role"], parked["aggregate_id"], parked["version"]) == ("append", "a", 2)
        assert parked["fault"].startswith("version 2: type: 'Packed' is not one of")
    del fleet.environment["OLD"]

    # It says what to roll out first, though a door has the newer declaration already.
    [told] = [each for each in fleet.json("check")["notes"] if "is new to append" in each]
    assert told.startswith("event Packed, schema version 1, ")
    assert told.endswith(
        "roll out append first, then snapshot, relay, project and command, serve last"
    )

    # The newer declaration is deployed; the event is placed unasked, and nothing was withdrawn.
    fleet.start("append snapshot relay")
    wait_for(lambda: not listed(fleet), "the event to be placed")
    assert send(fleet, "a", "Ship")["outcome"] == "accepted"
    fleet.settle("append", "snapshot", "relay")
    assert [each["type"] for each in events_of(fleet, "a")] == ["Placed", "Packed", "Shipped"]
    out = [(each["subject"], each["type"]) for each in fleet.topic_events("out")]
    assert [kind for key, kind in out if key == "a"] == ["Placed", "Packed", "Shipped"]
    assert fleet.audit()[1]["clean"]


def checked(fleet: CommandFleet, *options: str, status: int = 0) -> list[dict[str, Any]]:
    """What roles park, as `check` judges it."""
    found: list[dict[str, Any]] = fleet.json("check", *options, status=status)["parked"]
    return found


def events_of(fleet: CommandFleet, aggregate_id: str) -> list[dict[str, Any]]:
    return fleet.json_lines("events", "rollout", aggregate_id, "--json")


def listed(fleet: CommandFleet) -> list[dict[str, Any]]:
    [found] = fleet.json_lines("deadletters", "list", "rollout")
    letters: list[dict[str, Any]] = found["dead_letters"]
    return letters
