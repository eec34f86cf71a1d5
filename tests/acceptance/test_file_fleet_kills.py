"""A fleet on a file that is killed again and again: COUNT=200 for the whole run."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

from eventfleet.fleet import running_roles
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import EventStore, LogReader
from eventfleet.topics.names import consumer_group
from tests.acceptance import file_fleet_senders
from tests.acceptance.file_fleet_senders import SENDERS, sums, tallies
from tests.integration.copied_topic import until

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("COUNT", "3"))
PATIENCE = 60.0
DOMAINS = {each.name: each for each in (sums, tallies)}


def test_what_was_accepted_is_stored_once_however_often_the_fleet_is_killed(tmp_path: Path) -> None:
    answers, chance = tmp_path / "answers", random.Random(COUNT)
    for run in range(COUNT):
        with started(tmp_path, f"run{run}", answers) as process:
            wait_for_answers(process, answers, run + 1)
            time.sleep(chance.uniform(0, 1))
            process.kill()
    accepted = [line.split() for line in answers.read_text().splitlines() if line != "ready"]
    print(f"{COUNT} kills, {len(accepted)} accepted")
    assert len(accepted) > COUNT
    settings = Settings(data=str(tmp_path / "data"), metrics_port=0)
    asyncio.run(settle(settings))
    stored = asyncio.run(stored_events(settings, {(domain, id) for domain, id, _ in accepted}))
    assert max(stored.values()) == 1
    assert {(domain, event) for domain, _, event in accepted} <= stored.keys()
    audit = subprocess.run(
        [sys.executable, "-m", "eventfleet.cli", "audit"],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


def started(folder: Path, run: str, answers: Path) -> "subprocess.Popen[bytes]":
    module = file_fleet_senders.__name__
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, run, str(answers)],
            cwd=ROOT,
            env=environment(folder),
            stderr=output,
        )


def environment(folder: Path) -> dict[str, str]:
    module = file_fleet_senders.__name__
    own = {"EVENTFLEET_DATA": str(folder / "data"), "EVENTFLEET_DOMAINS": module}
    return {**os.environ, **own}


def wait_for_answers(process: "subprocess.Popen[bytes]", answers: Path, runs: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        begun = answers.read_text().split("ready\n") if answers.exists() else []
        if len(begun) > runs and begun[-1]:
            return
        assert process.poll() is None, (answers.parent / "output").read_text()[-6000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def settle(settings: Settings) -> None:
    """Run the roles until they have done what the last kill has left undone."""
    async with (
        running_roles(settings, DOMAINS.values()),
        connections.stores(settings, DOMAINS) as stores,
        connections.log_reader(settings) as reader,
    ):
        for name, domain in DOMAINS.items():
            events, topics = stores[name].events, domain.topics
            aggregates = {f"{name}-{sender}" for sender in range(SENDERS)}
            await until(partial(all_placed, events, aggregates))
            sources = {"append": topics.events, "snapshot": topics.stored, "relay": topics.stored}
            for role, topic in sources.items():
                group = consumer_group(settings.group_prefix, name, role)
                await until(partial(all_passed, reader, group, topic))


async def all_placed(events: EventStore, aggregates: set[str]) -> bool:
    return all(head.placed == head.version for head in (await events.heads(aggregates)).values())


async def all_passed(reader: LogReader, group: str, topic: str) -> bool:
    ends = sum(marks.end for marks in (await reader.watermarks(topic)).values())
    return ends == sum((await reader.committed(group, topic)).values())


async def stored_events(
    settings: Settings, aggregates: set[tuple[str, str]]
) -> Counter[tuple[str, str]]:
    """How often each event of some aggregates is stored, by domain and id."""
    found: Counter[tuple[str, str]] = Counter()
    async with connections.stores(settings, DOMAINS) as stores:
        for domain, id in aggregates:
            async for event in stores[domain].events.read(id):
                found[domain, event.id] += 1
    return found
