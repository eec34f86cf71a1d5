"""Scenario file relay: relay on a fleet's file, beside a loop that writes the same rows."""

from msgspec.structs import replace

from benchmarks import data, file_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, settings, placed_events = await file_setup.set_up_role(servers, "relay")
    check = await data.produce_stored_events(settings, task.domain, placed_events)
    await data.store_events(settings, task.domain, placed_events)
    routed = sum(event.type == "Withdrawn" for events in placed_events for event in events)
    return replace(task, extra={"value_bytes": check, "relayed": routed})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await file_setup.verify_role(task, "relay")


SCENARIO = Scenario(
    "file relay",
    "events/s",
    prepare,
    {
        "eventfleet": "file_relay_ours",
        "hand-written loop": "file_relay_loop",
    },
    [Goal("hand-written loop", at_least=0.5)],
    verify,
    needs_servers=False,
)
