"""A process that edits documents in a file is killed again and again."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from eventfleet.documents import open_storage
from tests.unit import sqlite_document_writers
from tests.unit.sqlite_document_writers import Counter

WRITERS = 8
KILLS = int(os.environ.get("COUNT", "4"))


def write_until_killed(file: Path, acknowledged: dict[str, int], edits: int) -> None:
    """Kill the process after so many answers; those on their way are read, too."""
    command = [sys.executable, sqlite_document_writers.__file__, file, str(WRITERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for number, line in enumerate(process.stdout):
            id, _, version = line.rstrip().partition(" ")
            if line.endswith("\n"):
                assert int(version) > acknowledged.get(id, 0)
                acknowledged[id] = int(version)
            if number == edits:
                process.kill()


async def read_all(file: Path) -> dict[str, tuple[Any, list[Any]]]:
    async with open_storage(f"sqlite:///{file}", "db", "counters", Counter) as counters:
        return {
            found.id: (await counters.get(found.id), await counters.get_missing_events(found.id))
            for found in await counters.find()
        }


def test_nothing_that_was_answered_is_lost_or_stored_twice(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(7), dict[str, int]()
    for _ in range(KILLS):
        write_until_killed(tmp_path / "file", acknowledged, chance.randrange(200, 600))
        stored = asyncio.run(read_all(tmp_path / "file"))
        assert stored.keys() >= acknowledged.keys()
        for id, (counter, changes) in stored.items():
            assert [each.version for each in changes] == [*range(1, len(changes) + 1)]
            assert len(changes) >= acknowledged.get(id, 0)
            assert (counter.version, counter.count) == (len(changes), len(changes) - 1)
