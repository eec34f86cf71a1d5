"""What a test asks of the file of a fleet that has met faults."""

import asyncio
import os
import subprocess
import sys
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
DOMAINS = {each.name: each for each in (sums, tallies)}

Answered = tuple[str, str, str]
"""A domain, an aggregate, and the id of an event that was accepted."""


def environment(data: Path) -> dict[str, str]:
    own = {"EVENTFLEET_DATA": str(data), "EVENTFLEET_DOMAINS": file_fleet_senders.__name__}
    return {**os.environ, **own}


def assert_kept(data: Path, accepted: set[Answered]) -> None:
    """Assert that each accepted event is stored, none is stored twice, and the audit is clean, once
    the roles have done what was left undone."""
    settings = Settings(data=str(data), metrics_port=0)
    asyncio.run(settle(settings))
    stored = asyncio.run(stored_events(settings, {(domain, id) for domain, id, _ in accepted}))
    assert max(stored.values()) == 1
    assert {(domain, event) for domain, _, event in accepted} <= stored.keys()
    audit = subprocess.run(
        [sys.executable, "-m", "eventfleet.cli", "audit"],
        cwd=ROOT,
        env=environment(data),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


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
