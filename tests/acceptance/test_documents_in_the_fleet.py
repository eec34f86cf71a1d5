"""A document collection as a domain of the fleet: append places its events, relay routes them.

On servers alone: a fleet can't take over a collection in a file.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfleet.documents import open_storage
from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for

PARTITIONS = 4
MODULE = """
import msgspec
from eventfleet import Route
from eventfleet.documents import document_domain


class User(msgspec.Struct):
    id: str
    name: str = ""
    version: int = 0


users = document_domain("users", User, routes=[Route("users.changed")])
"""


class User(msgspec.Struct):
    """A user, as in the team's module."""

    id: str
    name: str = ""
    version: int = 0


@pytest.fixture
def fleet(kafka: str, mongo_url: str, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "users.py").write_text(MODULE)
    with Fleet(kafka, mongo_url, tmp_path, "users", PARTITIONS) as fleet:
        yield fleet


async def edit_all(fleet: Fleet) -> None:
    def edit(user: User) -> None:
        user.name += "x"

    async with open_storage(
        fleet.mongo_url, fleet.prefix, "users", User, partitions=PARTITIONS
    ) as users:
        for id in ("u1", "u2", "u3"):
            await users.find_one_and_upsert(User(id), "web")
            for _ in range(3):
                await users.find_one_and_update(id, edit, "web")
        await users.delete_one("u3", "admin")


def test_the_fleet_publishes_a_collection_s_changes_in_version_order(fleet: Fleet) -> None:
    asyncio.run(edit_all(fleet))
    fleet.start("append")
    fleet.start("relay")
    records = wait_for(
        lambda: (found := fleet.kafka.records("users.changed")) and len(found) == 13 and found,
        "13 relayed events",
    )
    by_user: dict[str, list[tuple[int, str]]] = {}
    for record in records:
        event: dict[str, Any] = json.loads(record.value)
        by_user.setdefault(event["subject"], []).append((event["version"], event["type"]))
    created, updated = (1, "UserCreated"), [(n, "UserUpdated") for n in (2, 3, 4)]
    assert by_user["u1"] == by_user["u2"] == [created, *updated]
    assert by_user["u3"] == [created, *updated, (5, "UserDeleted")]
    state = json.loads(fleet.run("state", "users", "u1", "--json"))
    assert state["state"] == {"document": {"name": "xxx"}, "version": 4}
    assert json.loads(fleet.run("audit", "--json"))["clean"]
