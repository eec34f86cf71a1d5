"""Sixteen writers of documents in four processes, which are killed in the middle of edits."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from eventfleet.documents import open_storage
from eventfleet.documents.storage.diff import apply_diff
from tests.acceptance.fleet import ROOT
from tests.faults.document_writers import COLLECTION, DOCUMENTS, WRITERS, CounterDocument

PROCESSES = 4
KILL_PAUSE_SECONDS = (0.5, 2.0)


class WriterProcesses:
    """The processes; one that is killed is followed by another with edits of its own."""

    def __init__(self, url: str, database: str, folder: Path) -> None:
        self._url, self._database, self._folder = url, database, folder
        self._seed = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, edits: int) -> None:
        self._seed += 1
        log = self._folder / f"{self._seed}.log"
        arguments = (self._url, self._database, str(edits), str(self._seed), str(log))
        command = [sys.executable, "-m", "tests.faults.document_writers", *arguments]
        self.processes.append(subprocess.Popen(command, cwd=ROOT))

    def acknowledged(self) -> dict[str, tuple[str, int]]:
        """Each acknowledged edit's document and version, by the edit's name."""
        lines = [
            line.split()
            for log in self._folder.glob("*.log")
            for line in log.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return {name: (id, int(version)) for name, id, version in lines}

    def kill(self, chance: random.Random) -> None:
        running = [each for each in self.processes if each.poll() is None]
        if running:
            victim = chance.choice(running)
            victim.kill()
            victim.wait()
            self.processes.remove(victim)


@pytest.fixture
def database(mongo_url: str, prefix: str) -> Iterator[str]:
    yield prefix
    with MongoClient(mongo_url) as client:
        client.drop_database(prefix)


@pytest.mark.parametrize(
    ("edits", "kills"), [(2_000, 3), pytest.param(50_000, 20, marks=pytest.mark.faults)]
)
def test_writers_that_are_killed(
    mongo_url: str, database: str, tmp_path: Path, edits: int, kills: int
) -> None:
    writers, chance = WriterProcesses(mongo_url, database, tmp_path), random.Random(kills)
    for _ in range(PROCESSES):
        writers.start(edits // PROCESSES)
    killed = 0
    while killed < kills and len(writers.acknowledged()) < edits:
        time.sleep(chance.uniform(*KILL_PAUSE_SECONDS))
        writers.kill(chance)
        writers.start(edits // PROCESSES // 2)
        killed += 1
    for process in writers.processes:
        assert process.wait(600) == 0
    acknowledged = writers.acknowledged()
    print(f"documents: {killed} kills, {len(acknowledged):,} edits acknowledged")
    asyncio.run(check(mongo_url, database, acknowledged, killed))


async def check(
    url: str, database: str, acknowledged: dict[str, tuple[str, int]], kills: int
) -> None:
    """Each document is what its events make; nothing acknowledged is lost or stored twice."""
    edits: Counter[str] = Counter()
    async with open_storage(url, database, COLLECTION, CounterDocument) as counters:
        for number in range(DOCUMENTS):
            id = f"d{number}"
            changes = await counters.get_missing_events(id)
            assert [change.version for change in changes] == [*range(1, len(changes) + 1)]
            document = None
            for change in changes:
                document = apply_diff(document, change.diff)
                if change.operation == "update":
                    edits[change.diff.merge_patch["last"]] += 1
                    known = acknowledged.get(change.diff.merge_patch["last"])
                    assert known in (None, (id, change.version))
            [found] = await counters.find({"_id": id}, at_least={id: len(changes)})
            assert document == {"count": found.count, "last": found.last}
            assert found.count == len(changes) - 1
    assert set(edits.values()) == {1}
    assert set(acknowledged) <= set(edits)
    assert len(set(edits) - set(acknowledged)) <= kills * WRITERS
