"""Scenario relay: a third of `<domain>.stored` relayed to a route's topic."""

from msgspec.structs import replace

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, placed_events = await role_setup.set_up_role(servers, "relay", role_setup.dataset_size())
    settings = role_setup.make_settings(servers)
    check = await data.produce_stored_events(settings, task.domain, placed_events)
    if contender == SCENARIO.ours:  # for the audit: relay itself has no store
        await data.store_events(settings, task.domain, placed_events)
    routed = sum(event.type == "Withdrawn" for events in placed_events for event in events)
    return replace(task, extra={"value_bytes": check, "relayed": routed})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await role_setup.verify_role(servers, task, "relay")


SCENARIO = Scenario(
    "relay",
    "events/s",
    prepare,
    {
        "eventfleet": "relay_ours",
        "hand-written loop": "relay_loop",
    },
    [
        Goal("hand-written loop", at_least=0.8),
        Goal("hand-written loop", "cpu", at_most=1.3),
    ],
    verify,
)
