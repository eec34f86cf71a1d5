"""Commands by our EventService, in the process that sends them."""

from typing import Any

from benchmarks.contenders.command_data import settings_of
from benchmarks.contenders.in_process_command_data import bank, measured
from benchmarks.contenders.task import LOOP, Task, run, task, told
from eventfleet.deciders.outcomes import Accepted
from eventfleet.runtime.event_services import event_service

SETTINGS = {"acks": "all", "marker": "two EVALSHA in pipelines", "event loop": LOOP}


async def main(task: Task) -> None:
    async with event_service(settings_of(task), bank(task.domain)) as service:

        async def send(account: str, data: dict[str, Any]) -> None:
            outcome = await service.send(account, "Deposit", data)
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"deposit into {account}: {outcome}")

        result = await measured(task, send, SETTINGS)
    told(result)


if __name__ == "__main__":
    run(main(task()))
