"""Commands through our EventServices, in the one process that has the file and runs its roles."""

import asyncio
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.contenders.file_lone_data import (
    BLOCKS,
    Deposit,
    Turns,
    callers_accounts,
    time_block,
    warm_up,
)
from benchmarks.contenders.lone_synchronous_data import AMOUNT
from benchmarks.contenders.task import (
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)
from benchmarks.file_setup import describe_pragmas, make_settings
from benchmarks.scenarios.file_lone import declare_receipts
from benchmarks.scenarios.lone_synchronous import declare_accounts
from eventfleet.commands import Accepted, EventService, event_service
from eventfleet.fleet import running_roles
from eventfleet.runtime.file_backend import FileBackend


def depositing(service: EventService[Any]) -> Deposit:
    async def deposit(account: str) -> None:
        outcome = await service.send(account, "PutIn", {"cents": AMOUNT})
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"deposit into {account}: {outcome}")

    return deposit


async def main(task: ContenderTask) -> None:
    settings = make_settings(task)
    domains = declare_accounts(task.domain), declare_receipts(task.domain)
    async with (
        running_roles(settings, domains),
        event_service(settings, domains[0]) as accounts,
        event_service(settings, domains[1]) as receipts,
    ):
        deposit = depositing(accounts)
        measures = await measure_lone(task, deposit, depositing(receipts))
        clock = await measure_callers(task.records, deposit)
        described = await FileBackend(settings).database.write(describe_pragmas)
    write_result(Result(task.records, clock.seconds, clock.cpu, 0, described, measures))


async def measure_lone(
    task: ContenderTask, synchronous: Deposit, asynchronous: Deposit
) -> dict[str, float]:
    """Time a lone caller's commands of both kinds, in blocks by turns."""
    times: dict[Callable[..., Any], list[float]] = {synchronous: [], asynchronous: []}
    for deposit in times:
        await warm_up(deposit)
    for _ in range(BLOCKS):
        for deposit, taken in times.items():
            taken += await time_block(task, deposit)
    p50, asynchronous_p50 = map(median, times.values())
    return {
        "p50": p50,
        "asynchronous_p50": asynchronous_p50,
        "asynchronous_ratio": asynchronous_p50 / p50,
    }


async def measure_callers(commands: int, deposit: Deposit) -> Stopwatch:
    """Time the commands of many callers at once, each with an account of its own."""
    await asyncio.gather(*map(deposit, callers_accounts()))
    clock, turns = Stopwatch(), Turns(commands)

    async def work(account: str) -> None:
        for _ in turns:
            await deposit(account)

    clock.start()
    await asyncio.gather(*map(work, callers_accounts()))
    clock.stop()
    return clock


if __name__ == "__main__":
    run(main(read_task()))
