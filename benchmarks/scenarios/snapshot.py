"""Scenario snapshot: `<domain>.stored` folded into live states, every 100th version saved."""

from collections import Counter

from msgspec.structs import replace

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, placed_events = await role_setup.set_up_role(servers, "snapshot", role_setup.FULL_SIZE)
    settings = role_setup.make_settings(servers)
    check = await data.produce_stored_events(settings, task.domain, placed_events)
    await data.store_events(settings, task.domain, placed_events)
    versions = Counter(event.aggregate_id for events in placed_events for event in events)
    due = sum(version >= data.SNAPSHOT_INTERVAL_EVENTS for version in versions.values())
    return replace(task, extra={"value_bytes": check, "snapshots": due})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await role_setup.verify_role(servers, task, "snapshot")


SCENARIO = Scenario(
    "snapshot",
    "events/s",
    prepare,
    {
        "eventfleet": "snapshot_ours",
        "hand-written loop": "snapshot_loop",
    },
    [
        Goal("hand-written loop", at_least=0.8),
        Goal("hand-written loop", "cpu", at_most=1.3),
    ],
    verify,
)
