"""Latest state: of accounts with few and many events, each grown by 20 before it is asked for."""

from uuid import uuid4

from benchmarks import data
from benchmarks.contenders.latest_state_data import APPENDED, QUERIES, SIZES, history
from benchmarks.contenders.task import Task
from benchmarks.roles import DATABASE, settings_of
from benchmarks.scenario import Goal, Line, Servers

LABELS = {f"{size:,} events": size for size in reversed(SIZES)}

_domains: dict[tuple[str, int], str] = {}


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    """The sides of a repeat share a store, where each has an account of its own."""
    at = servers.mongo_url, repeat
    name = _domains[at] = _domains.get(at) or await _filled(servers)
    return Task(
        servers.kafka,
        servers.mongo_url,
        servers.redis_url,
        domain=name,
        topic="",
        group="",
        partitions=len(SIZES),
        records=QUERIES,
        chunk=APPENDED,
        database=DATABASE,
        more={"size": LABELS[side]},
    )


async def _filled(servers: Servers) -> str:
    name, settings = f"latest-{uuid4().hex[:8]}", settings_of(servers)
    await data.make_stores(settings, name)
    await data.store(settings, name, [history(name, size)[:size] for size in SIZES])
    return name


LINE = Line(
    name="latest state",
    unit="queries/s",
    prepare=prepare,
    sides=dict.fromkeys(LABELS, "latest_state_ours"),
    goals=[
        Goal("10 events", "p50", at_most=1.5),
        Goal("", "events_read", at_most=APPENDED),
        Goal("", "snapshots_read", at_most=1),
    ],
)
