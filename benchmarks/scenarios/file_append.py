"""Scenario file append: append on a fleet's file, beside a loop that writes the same rows."""

from msgspec.structs import replace

from benchmarks import data, file_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, settings, placed_events = await file_setup.set_up_role(servers, "append")
    check = await data.produce_events(settings, task.domain, placed_events)
    return replace(task, extra={"value_bytes": check})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await file_setup.verify_role(task, "append")


SCENARIO = Scenario(
    "file append",
    "events/s",
    prepare,
    {
        "eventfleet": "file_append_ours",
        "hand-written loop": "file_append_loop",
    },
    [Goal("hand-written loop", at_least=0.5)],
    verify,
    needs_servers=False,
)
