"""The shared part of the scenarios on a fleet's file: each run has a folder, in place of the last.

TMPDIR names the disk that has it.
"""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import apsw

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import ServerAddresses
from eventfleet.runtime.settings import Settings

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
