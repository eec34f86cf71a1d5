"""Snapshot: `<domain>.stored` folded into live states, of which every 100th version is saved."""

from collections import Counter

from msgspec.structs import replace

from benchmarks import data, roles
from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    task, placed = await roles.begin(servers, "snapshot", roles.FULL)
    settings = roles.settings_of(servers)
    check = await data.produce_stored(settings, task.domain, placed)
    await data.store(settings, task.domain, placed)
    versions = Counter(event.aggregate_id for events in placed for event in events)
    due = sum(version >= data.EVERY for version in versions.values())
    return replace(task, more={"check": check, "snapshots": due})


async def verify(servers: Servers, task: Task) -> None:
    await roles.check(servers, task, "snapshot")


LINE = Line(
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
