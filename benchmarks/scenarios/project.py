"""Scenario project: `<domain>.stored` projected to a view of one row for each aggregate."""

from msgspec.structs import replace

from benchmarks import data, role_setup
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses
from eventfleet.model.view_rows import decode_row
from eventfleet.runtime import connections
from eventfleet.stores.contracts.views import BuildProgress, RowQuery

MAX_ROWS = 1_000_000


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return a task over a topic of its own; the view has a build, as after the first minute."""
    size = role_setup.dataset_size()
    task, placed_events = await role_setup.set_up_role(servers, "project", size)
    settings = role_setup.make_settings(servers)
    check = await data.produce_stored_events(settings, task.domain, placed_events)
    domain = data.declare_ledger(task.domain)
    [view] = domain.views
    async with connections.stores(settings, {task.domain: domain}) as stores:
        views = stores[task.domain].views
        assert views is not None
        await views.begin(view.name, [view.name], view.shape, 0)
        for partition in range(task.partitions):
            begun, ready = BuildProgress(), BuildProgress(ready=True)
            await views.note_progress(view.name, 1, partition, begun, ready)
        assert await views.make_live(view.name, 1, task.partitions)
    return replace(task, extra={"value_bytes": check})


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise VerificationFailed unless the rows, where they are ours, count every event."""
    settings, domain = role_setup.make_settings(servers), data.declare_ledger(task.domain)
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        committed = sum((await reader.committed(task.group, task.topic)).values())
        views = stores[domain.name].views
        assert views is not None
        found = await views.rows(domain.views[0].name, domain.views[0].name, 1).find(
            RowQuery(), MAX_ROWS
        )
    events = sum(decode_row(data.AccountRow, each.fields or {}).events for each in found)
    if committed != task.records or events not in (0, task.records):
        raise role_setup.VerificationFailed(f"project: {committed} committed, {events} projected")


SCENARIO = Scenario(
    "project",
    "events/s",
    prepare,
    {
        "eventfleet": "project_ours",
        "hand-written loop": "project_loop",
    },
    [
        Goal("hand-written loop", at_least=0.8),
        Goal("hand-written loop", "cpu", at_most=1.3),
    ],
    verify,
)
