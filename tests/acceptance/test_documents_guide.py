"""The guide to documents and its examples, as a reader would run them, with MongoDB alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from tests.acceptance.fleet import ROOT

GUIDE = ROOT / "docs" / "guides" / "documents.md"


@pytest.fixture(params=["mongo", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"sqlite:///{tmp_path}/documents.sqlite"
        return
    mongo_url = request.getfixturevalue("mongo_url")
    yield mongo_url
    with MongoClient(mongo_url) as client:
        for database in ("shop", "games", "mydb"):
            client.drop_database(database)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def run(*arguments: str | Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_guide_s_program_prints_what_the_guide_says(url: str, tmp_path: Path) -> None:
    first, *others = blocks("python")
    program, more = tmp_path / "users.py", tmp_path / "more.py"
    program.write_text(first)
    assert run(program, url) == blocks("text")[0].splitlines()
    declarations = first.partition("def change_email")[0]
    more.write_text("\n\n".join([declarations, *others]))
    assert run(more) == []


def test_the_five_uses_of_the_game(url: str) -> None:
    assert run(ROOT / "examples" / "game" / "main.py", url) == [
        "created at version 1: 100 gold",
        "version 2: 150 gold, 100 experience",
        "deleted: None",
        "missed 2: update by admin-panel of experience, gold, last_updated",
        "missed 3: delete by admin-panel of everything",
    ]


@pytest.mark.parametrize("bus", ["memory", "redis"])
def test_users_in_three_steps(url: str, redis_url: str, bus: str) -> None:
    more = (redis_url,) if bus == "redis" else ()
    ids = set()
    for _ in range(2):
        lines = run(ROOT / "examples" / "users" / "main.py", url, *more)
        [id] = re.findall(r"\((.*)\)", lines[0])
        ids.add(id)
        assert lines == [
            f"welcome, John Doe ({id})",
            f"{id}: the address is john.doe@example.com now",
            "John Doe <john.doe@example.com>, version 2",
        ]
    assert len(ids) == 2


def test_an_address_of_an_absent_user_is_that_user_s() -> None:
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT / "examples" / "users")!r})
from user import User, make_dispatcher
from eventfleet.aggregates import CommandEnvelope
from eventfleet.documents import Documents, MemoryClient

async def main():
    async with Documents(MemoryClient(), "mydb", {{"users": User}}) as documents:
        change = CommandEnvelope.of("ChangeEmail", "nobody", {{"email": "a@b.example"}})
        print((await make_dispatcher(documents).dispatch(change)).id)

asyncio.run(main())
"""
    assert run("-c", program) == ["nobody"]
