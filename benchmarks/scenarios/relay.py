"""Relay: a third of `<domain>.stored` on to a route's topic."""

from msgspec.structs import replace

from benchmarks import data, roles
from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    task, placed = await roles.begin(servers, "relay", roles.amount())
    settings = roles.settings_of(servers)
    check = await data.produce_stored(settings, task.domain, placed)
    if side == LINE.ours:  # for the audit: relay itself has no store
        await data.store(settings, task.domain, placed)
    routed = sum(event.type == "Withdrawn" for events in placed for event in events)
    return replace(task, more={"check": check, "relayed": routed})


async def verify(servers: Servers, task: Task) -> None:
    await roles.check(servers, task, "relay")


LINE = Line(
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
