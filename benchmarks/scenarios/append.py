"""Append: events of `<domain>.events` into the store and on to `<domain>.stored`."""

from msgspec.structs import replace

from benchmarks import data, roles
from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    task, placed = await roles.begin(servers, "append", roles.amount())
    settings = roles.settings_of(servers)
    check = await data.produce_events(settings, task.domain, placed)
    return replace(task, more={"check": check})


async def verify(servers: Servers, task: Task) -> None:
    await roles.check(servers, task, "append")


LINE = Line(
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
