"""The same commands with pyeventsourcing on SQLite, its many callers as threads.

As durable as ours: WAL, and each commit is synced (`synchronous = FULL`). Its cache is used as ours
is, and it takes no snapshots, as ours takes none.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from benchmarks.contenders.file_lone_data import (
    BLOCKS,
    CALLERS,
    Turns,
    callers_accounts,
    time_block,
    warm_up,
)
from benchmarks.contenders.lone_synchronous_pyeventsourcing import Accounts
from benchmarks.contenders.task import (
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)
from benchmarks.file_setup import SYNCHRONOUS

CACHE = {"AGGREGATE_CACHE_MAXSIZE": "10000", "AGGREGATE_CACHE_FASTFORWARD": "n"}
TIMEOUTS = {"SQLITE_POOL_TIMEOUT": "60", "SQLITE_LOCK_TIMEOUT": "60"}


class FileAccounts(Accounts):
    snapshotting_intervals: ClassVar[Any] = None


async def main(task: ContenderTask) -> None:
    file = {"PERSISTENCE_MODULE": "eventsourcing.sqlite"}
    file["SQLITE_DBNAME"] = str(Path(task.database, "accounts.sqlite"))
    accounts = FileAccounts(env=file | CACHE | TIMEOUTS)

    async def deposit(account: str) -> None:
        accounts.deposit(account)

    await warm_up(deposit)
    times = [seconds for _ in range(BLOCKS) for seconds in await time_block(task, deposit)]
    clock = measure_callers(task.records, accounts)
    described = describe_pragmas(accounts)
    accounts.close()
    measures = {"p50": median(times)}
    write_result(Result(task.records, clock.seconds, clock.cpu, 0, described, measures))


def measure_callers(commands: int, accounts: FileAccounts) -> Stopwatch:
    """Time the commands of many threads at once, each with an account of its own."""
    clock, turns = Stopwatch(), Turns(commands)

    def work(account: str) -> None:
        for _ in turns:
            accounts.deposit(account)

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(accounts.deposit, callers_accounts()))
        clock.start()
        list(callers.map(work, callers_accounts()))
        clock.stop()
    return clock


def describe_pragmas(accounts: FileAccounts) -> dict[str, str]:
    """Return how durable the commits are, as a connection of the application says."""
    factory: Any = accounts.factory
    with factory.datastore.transaction(commit=False) as cursor:
        found = []
        for name in ("journal_mode", "synchronous"):
            cursor.execute(f"PRAGMA {name}")
            found.append(cursor.fetchone()[0])
    return {"journal": found[0].upper(), "synchronous": SYNCHRONOUS[found[1]]}


if __name__ == "__main__":
    run(main(read_task()))
