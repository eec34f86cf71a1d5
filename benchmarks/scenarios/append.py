"""Scenario append: events of `<domain>.events` into the store and on to `<domain>.stored`."""

from msgspec.structs import replace

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, placed_events = await role_setup.set_up_role(servers, "append", role_setup.dataset_size())
    settings = role_setup.make_settings(servers)
    check = await data.produce_events(settings, task.domain, placed_events)
    return replace(task, extra={"value_bytes": check})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await role_setup.verify_role(servers, task, "append")


SCENARIO = Scenario(
    "append",
    "events/s",
    prepare,
    {
        "eventfleet": "append_ours",
        "hand-written loop": "append_loop",
    },
    [
        Goal("hand-written loop", at_least=0.8),
        Goal("hand-written loop", "cpu", at_most=1.3),
    ],
    verify,
)
