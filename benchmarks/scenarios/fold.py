"""Fold: stored events into states that are in memory already, without any server."""

from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers

EVENTS = 200_000
AGGREGATES = 10_000
CHUNK = 2_000
LOOP = "bare decode and fold"


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    """The sides make the same records for themselves; nothing is asked of a server."""
    return Task(
        servers.kafka,
        servers.mongo_url,
        servers.redis_url,
        domain="ledger",
        topic="ledger.stored",
        group="fold",
        partitions=1,
        records=EVENTS,
        chunk=CHUNK,
        database="",
        more={"aggregates": AGGREGATES},
    )


LINE = Line(
    name="fold",
    unit="events/s",
    prepare=prepare,
    sides={"eventfleet": "fold_ours", LOOP: "fold_loop"},
    goals=[Goal("", at_least=100_000), Goal(LOOP)],
)
