"""Commands of a lone caller through our EventService, in its process."""

from typing import Any

from benchmarks.contenders.command_data import declare_shop, make_settings
from benchmarks.contenders.lone_command_data import measure_sends
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result
from eventfleet.deciders.outcomes import Accepted
from eventfleet.runtime.event_services import event_service

SETTINGS = {"acks": "all", "event loop": EVENT_LOOP}


async def main(task: ContenderTask) -> None:
    async with event_service(make_settings(task), declare_shop(task.domain)) as service:

        async def send(order: str, name: str, data: dict[str, Any]) -> None:
            outcome = await service.send(order, name, data)
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"{name} of {order}: {outcome}")

        result = await measure_sends(task, send, SETTINGS)
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
