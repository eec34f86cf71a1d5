"""The shared part of the scenarios on a fleet's file: each run has a folder, in place of the last.

TMPDIR names the disk that has it.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import apsw

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import ServerAddresses
from eventfleet.fleet import running_roles
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import EventStore, LogReader
from eventfleet.topics.names import consumer_group
from eventfleet.workers.agents import ROLES, agent_class

LOOK_SECONDS = 0.05
SYNCHRONOUS = {1: "NORMAL", 2: "FULL"}


@cache
def _root() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="eventfleet-bench-")


def new_folder() -> str:
    """Return a new folder for the data of one run, in place of the run before."""
    root = Path(_root().name)
    for former in root.iterdir():
        shutil.rmtree(former)
    return mkdtemp(dir=root)


def make_settings(task: ContenderTask) -> Settings:
    """Return the settings of the fleet whose folder is the task's database."""
    return Settings(
        data=task.database,
        partitions=task.partitions,
        chunk_records=task.chunk,
        metrics_port=0,
    )


def describe_pragmas(connection: apsw.Connection) -> dict[str, str]:
    """Return how durable the commits of a connection are, as SQLite says."""
    return {
        "journal": connection.execute("PRAGMA journal_mode").get.upper(),
        "synchronous": SYNCHRONOUS[connection.execute("PRAGMA synchronous").get],
    }


async def set_up_role(
    servers: ServerAddresses, role: str
) -> tuple[ContenderTask, Settings, data.EventsByPartition]:
    """Create a new file with the topics of a domain; return its task and events."""
    size = role_setup.dataset_size()
    task = role_setup.make_task(servers, role, size, new_folder())
    settings = make_settings(task)
    await data.create_topics(settings, task.domain)
    return task, settings, data.make_events(task.domain, size)


async def verify_role(task: ContenderTask, role: str) -> None:
    """Raise VerificationFailed unless all is in the file and the audit clean."""
    await role_setup.verify_stored(make_settings(task), task, role)


async def settle_and_verify(
    settings: Settings, expected: Sequence[tuple[Domain[Any], int]]
) -> None:
    """Let the roles do what is left to do; then raise VerificationFailed unless as many events of
    each domain are stored, and the audit is clean."""
    domains = {domain.name: domain for domain, _ in expected}
    async with running_roles(settings, domains.values()):
        await settle(settings, domains.values())
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, domains) as stores,
    ):
        for domain, events in expected:
            report = await role_setup.audit(domain, stores[domain.name], reader, settings)
            if report.stored != events:
                raise role_setup.VerificationFailed(
                    f"{domain.name}: {report.stored} events are stored, expected {events}"
                )


async def settle(settings: Settings, domains: Iterable[Domain[Any]]) -> None:
    """Return once the roles, which are running, have done what there was to do."""
    named = {domain.name: domain for domain in domains}
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, named) as stores,
    ):
        for name, domain in named.items():
            for partition in range(settings.partitions):
                await until(partial(_is_placed, stores[name].events, partition))
            for role in ROLES:
                agent = agent_class(role)
                if agent.serves(domain):
                    group = consumer_group(settings.group_prefix, name, role)
                    await until(partial(_has_passed, reader, group, agent.source_of(domain)))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once a condition holds."""
    while True:
        if await condition():
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _is_placed(events: EventStore, partition: int) -> bool:
    return not await events.sweep(partition, 1)


async def _has_passed(reader: LogReader, group: str, topic: str) -> bool:
    ends = sum(marks.end for marks in (await reader.watermarks(topic)).values())
    return ends == sum((await reader.committed(group, topic)).values())
