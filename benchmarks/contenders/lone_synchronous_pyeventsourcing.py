"""The same commands with pyeventsourcing on a PostgreSQL that this process starts.

Its cache is used as ours is: a cached aggregate is taken for the latest, and the store's unique
index refuses what was not decided on it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from glob import glob
from pathlib import Path
from typing import ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event

from benchmarks.contenders.lone_synchronous_data import AMOUNT, Deposit, measure_deposits
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result
from tests.servers.server import free_port

SNAPSHOT_EVENTS = 10


class Account(Aggregate):
    @event("Opened")
    def __init__(self, name: str) -> None:
        self.name, self.cents = name, AMOUNT

    @staticmethod
    def create_id(name: str) -> UUID:
        return uuid5(NAMESPACE_URL, name)

    @event("Deposited")
    def deposit(self, cents: int) -> None:
        self.cents += cents


class Accounts(Application[UUID]):
    snapshotting_intervals: ClassVar[dict[type[Account], int]] = {Account: SNAPSHOT_EVENTS}

    def deposit(self, name: str) -> None:
        try:
            account: Account = self.repository.get(Account.create_id(name))
        except AggregateNotFoundError:
            account = Account(name=name)
        else:
            account.deposit(AMOUNT)
        self.save(account)


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """Start a PostgreSQL with its defaults; the environment that names it."""
    (bin, *_) = sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True) or [""]
    if not (initdb := shutil.which("initdb", path=f"{bin}:{os.environ['PATH']}")):
        sys.exit("pyeventsourcing needs PostgreSQL: install Debian's package postgresql")
    user, port = "postgres" if os.geteuid() == 0 else None, free_port()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if user:
        shutil.chown(folder, user)
    quiet = {"user": user, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([initdb, "-D", folder, "-A", "trust", "-U", "bench"], check=True, **quiet)
    server = [Path(initdb).with_name("pg_ctl"), "-D", folder, "-w"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    subprocess.run([*server, "-o", options, "-l", folder / "log", "start"], check=True, **quiet)
    try:
        yield {
            "POSTGRES_DBNAME": "postgres",
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(port),
            "POSTGRES_USER": "bench",
            "POSTGRES_PASSWORD": "bench",
        }
    finally:
        subprocess.run([*server, "-m", "fast", "stop"], check=True, **quiet)
        shutil.rmtree(folder)


async def main(task: ContenderTask) -> None:
    cache = {"AGGREGATE_CACHE_MAXSIZE": "10000", "AGGREGATE_CACHE_FASTFORWARD": "n"}
    with postgresql() as address:
        settings = address | cache | {"PERSISTENCE_MODULE": "eventsourcing.postgres"}

        @asynccontextmanager
        async def open_caller() -> AsyncIterator[Deposit]:
            accounts = Accounts(env=settings)

            async def deposit(account: str) -> None:
                accounts.deposit(account)

            yield deposit
            accounts.close()

        result = await measure_deposits(task, open_caller, {"fsync": "on", **cache})
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
