"""Scenario fold: stored events folded into states in memory, without servers."""

from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses

EVENTS = 200_000
AGGREGATES = 10_000
CHUNK_RECORDS = 2_000
BARE = "bare decode and fold"


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return the task alone: the contenders make the same records themselves."""
    return ContenderTask(
        *servers,
        domain="ledger",
        topic="ledger.stored",
        group="fold",
        partitions=1,
        records=EVENTS,
        chunk=CHUNK_RECORDS,
        database="",
        extra={"aggregates": AGGREGATES},
    )


SCENARIO = Scenario(
    name="fold",
    unit="events/s",
    prepare=prepare,
    contenders={"eventfleet": "fold_ours", BARE: "fold_loop"},
    goals=[Goal("", at_least=100_000), Goal(BARE)],
)
