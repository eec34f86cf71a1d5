"""Scenario file snapshot: snapshot on a fleet's file, beside a loop that writes the same rows."""

from collections import Counter

from msgspec.structs import replace

from benchmarks import data, file_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    task, settings, placed_events = await file_setup.set_up_role(servers, "snapshot")
    check = await data.produce_stored_events(settings, task.domain, placed_events)
    await data.store_events(settings, task.domain, placed_events)
    versions = Counter(event.aggregate_id for events in placed_events for event in events)
    due = sum(version >= data.SNAPSHOT_INTERVAL_EVENTS for version in versions.values())
    return replace(task, extra={"value_bytes": check, "snapshots": due})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    await file_setup.verify_role(task, "snapshot")


SCENARIO = Scenario(
    "file snapshot",
    "events/s",
    prepare,
    {
        "eventfleet": "file_snapshot_ours",
        "hand-written loop": "file_snapshot_loop",
    },
    [Goal("hand-written loop", at_least=0.5)],
    verify,
    needs_servers=False,
)
