"""Commands through our EventService, in the process that sends them."""

from typing import Any

from benchmarks.contenders.command_data import make_settings
from benchmarks.contenders.in_process_command_data import declare_bank, measure_sends
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result
from eventfleet.deciders.outcomes import Accepted
from eventfleet.runtime.event_services import event_service

SETTINGS = {"acks": "all", "marker": "two EVALSHA in pipelines", "event loop": EVENT_LOOP}


async def main(task: ContenderTask) -> None:
    async with event_service(make_settings(task), declare_bank(task.domain)) as service:

        async def send(account: str, data: dict[str, Any]) -> None:
            outcome = await service.send(account, "Deposit", data)
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"deposit into {account}: {outcome}")

        result = await measure_sends(task, send, SETTINGS)
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
