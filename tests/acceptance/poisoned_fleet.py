"""A fleet that parks, and what it shows."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet

ROWS = [
    *(("a", "1"), ("a", "poison 2"), ("b", "3"), ("a", "4"), ("c", "poison 5"), ("b", "6")),
    ("c", "7"),
]


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    with open_command_fleet(request, tmp_path, "tests.acceptance.poisoned") as fleet:
        yield fleet


def load(fleet: CommandFleet, *rows: tuple[str, str]) -> None:
    lines = [f"{key},Noted,2025-01-02T03:04:05Z,{text}" for key, text in rows]
    header = "case:concept:name,concept:name,time:timestamp,text"
    fleet.load("\n".join([header, *lines, ""]))


def relayed(fleet: CommandFleet, aggregate_id: str) -> list[str]:
    return relayed_texts(fleet)[aggregate_id]


def relayed_texts(fleet: CommandFleet) -> dict[str, list[str]]:
    """The relayed texts of each aggregate, in order."""
    texts: dict[str, list[str]] = defaultdict(list)
    for event in fleet.topic_events("out"):
        texts[event["subject"]].append(event["data"]["text"])
    return texts


def state(fleet: CommandFleet, aggregate_id: str) -> Any:
    return fleet.json("state", "poisoned", aggregate_id)["state"]["texts"]


def parked(fleet: CommandFleet) -> list[tuple[str, str, int]]:
    [found] = fleet.json_lines("deadletters", "list", "poisoned")
    return [(each["role"], each["aggregate_id"], each["first"]) for each in found["dead_letters"]]
