"""Synchronous commands of a lone caller through our EventService, in its process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contenders.command_data import make_settings
from benchmarks.contenders.lone_synchronous_data import AMOUNT, Deposit, measure_deposits
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result
from benchmarks.scenarios.lone_synchronous import declare_accounts
from eventfleet.deciders.outcomes import Accepted
from eventfleet.runtime.event_services import event_service


async def main(task: ContenderTask) -> None:
    @asynccontextmanager
    async def open_caller() -> AsyncIterator[Deposit]:
        async with event_service(make_settings(task), declare_accounts(task.domain)) as service:

            async def deposit(account: str) -> None:
                outcome = await service.send(account, "PutIn", {"cents": AMOUNT})
                if not isinstance(outcome, Accepted):
                    raise RuntimeError(f"deposit into {account}: {outcome}")

            yield deposit

    settings = {"acks": "all", "event loop": EVENT_LOOP}
    write_result(await measure_deposits(task, open_caller, settings))


if __name__ == "__main__":
    run(main(read_task()))
