"""Sixteen writers of documents in four processes, which are killed in the middle of edits."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pymongo import MongoClient

from eventfleet.buses import DocumentEvent
from eventfleet.documents import open_storage
from eventfleet.documents.diff import apply_diff
from tests.acceptance.fleet import ROOT
from tests.conftest import running
from tests.faults.document_writers import (
    COLLECTION,
    DOCUMENTS,
    WRITERS,
    CounterDocument,
    open_bus,
)
from tests.servers.mongodb import MongoDB
from tests.servers.redis import Redis

PROCESSES = 4
KILL_PAUSE_SECONDS = (0.5, 2.0)
QUIET_SECONDS = 120.0
ADDRESSES = {"redis": "redis_url", "nats": "nats_url"}


class Published:
    """Notes the versions that arrive, by document, once for each event."""

    def __init__(self) -> None:
        self.versions: defaultdict[str, list[int]] = defaultdict(list)
        self.repeats = 0
        self._ids: set[str] = set()

    def handle_event(self, event: DocumentEvent) -> None:
        if event.id in self._ids:
            self.repeats += 1
            return
        self._ids.add(event.id)
        self.versions[event.aggregate_id].append(event.version)

    def __len__(self) -> int:
        return len(self._ids)


class WriterProcesses:
    """The processes; one that is killed is followed by another with edits of its own."""

    def __init__(self, url: str, database: str, folder: Path, bus: tuple[str, ...]) -> None:
        self._url, self._database, self._folder, self._bus = url, database, folder, bus
        self._seed = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, edits: int) -> None:
        self._seed += 1
        log = self._folder / f"{self._seed}.log"
        arguments = (self._url, self._database, str(edits), str(self._seed), str(log), *self._bus)
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


FAULT_RUNS = [pytest.param(bus, 50_000, 20, marks=pytest.mark.faults) for bus in ("redis", "nats")]


@pytest.mark.parametrize(("bus", "edits", "kills"), [("redis", 2_000, 3), *FAULT_RUNS])
async def test_writers_that_are_killed(
    request: pytest.FixtureRequest,
    mongo_url: str,
    database: str,
    tmp_path: Path,
    bus: str,
    edits: int,
    kills: int,
) -> None:
    place = (bus, request.getfixturevalue(ADDRESSES[bus]), database)
    writers = WriterProcesses(mongo_url, database, tmp_path, place)
    published = Published()
    async with AsyncExitStack() as stack:
        subscribed = await open_bus(stack, *place)
        subscribed.subscribe("*", published, "published")
        await stack.enter_async_context(subscribed)
        killed = await write_and_kill(writers, edits, kills)
        acknowledged = writers.acknowledged()
        stored = await check(mongo_url, database, acknowledged, killed)
        # The last publisher may have died; whoever opens the collection with a bus goes on.
        options = {"bus": subscribed}
        async with open_storage(mongo_url, database, COLLECTION, CounterDocument, **options):
            await wait_for_all(published, sum(stored.values()))
    print(
        f"documents: {killed} kills, {len(acknowledged):,} edits acknowledged,"
        f" {len(published):,} events on {bus}, {published.repeats} of them again"
    )
    for id, version in stored.items():
        assert published.versions[id] == [*range(1, version + 1)], id


@pytest.mark.parametrize(
    ("edits", "kills", "every"),
    [(1_500, 3, 2), pytest.param(60_000, 50, 5, marks=pytest.mark.faults)],
)
async def test_publishers_that_are_killed_while_servers_restart(
    database: str, tmp_path: Path, edits: int, kills: int, every: int
) -> None:
    """Redis restarts empty, and the store is killed, after each so many kills of a process."""
    with running(Redis) as redis, running(MongoDB) as mongo:
        place = ("redis", redis.url, database)
        writers = WriterProcesses(mongo.url, database, tmp_path, place)
        published = Published()
        async with AsyncExitStack() as stack:
            subscribed = await open_bus(stack, *place)
            subscribed.subscribe("*", published, "published")
            await stack.enter_async_context(subscribed)

            async def disturb(number: int) -> None:
                if number % every == 0:
                    server = redis if (number // every) % 2 else mongo
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)

            killed = await write_and_kill(writers, edits, kills, disturb)
            acknowledged = writers.acknowledged()
            stored = await check(mongo.url, database, acknowledged, killed + kills // every)
            options = {"bus": subscribed}
            async with open_storage(mongo.url, database, COLLECTION, CounterDocument, **options):
                await wait_for_all(published, sum(stored.values()))
    print(
        f"documents: {killed} kills, {len(acknowledged):,} edits acknowledged,"
        f" {len(published):,} events, {published.repeats} of them again"
    )
    for id, version in stored.items():
        assert published.versions[id] == [*range(1, version + 1)], id


async def wait_for_all(published: Published, number: int) -> None:
    """Wait until so many events came, for as long as any come."""
    seen, moved_at = 0, time.monotonic()
    while len(published) < number:
        if len(published) > seen:
            seen, moved_at = len(published), time.monotonic()
        assert time.monotonic() - moved_at < QUIET_SECONDS, f"{seen} of {number} came"
        await asyncio.sleep(0.1)


async def disturb_nothing(number: int) -> None:
    """Leave the servers alone."""


async def write_and_kill(
    writers: WriterProcesses,
    edits: int,
    kills: int,
    disturb: Callable[[int], Awaitable[None]] = disturb_nothing,
) -> int:
    """Let the writers make their edits, kill some in between, and disturb the servers after each
    kill; return the number of kills."""
    chance, killed = random.Random(kills), 0
    for _ in range(PROCESSES):
        writers.start(edits // PROCESSES)
    while killed < kills and len(writers.acknowledged()) < edits:
        await asyncio.sleep(chance.uniform(*KILL_PAUSE_SECONDS))
        writers.kill(chance)
        writers.start(edits // PROCESSES)
        killed += 1
        await disturb(killed)
    for process in writers.processes:
        assert await asyncio.to_thread(process.wait, 900) == 0
    return killed


async def check(
    url: str, database: str, acknowledged: dict[str, tuple[str, int]], kills: int
) -> dict[str, int]:
    """Check that each document is what its events make, and that nothing acknowledged is lost or
    stored twice; return the versions."""
    edits: Counter[str] = Counter()
    versions: dict[str, int] = {}
    async with open_storage(url, database, COLLECTION, CounterDocument) as counters:
        for number in range(DOCUMENTS):
            id = f"d{number}"
            changes = await counters.get_missing_events(id)
            versions[id] = len(changes)
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
    return versions
