"""Scenario latest state: accounts with few and many events, each grown by 20 before a query."""

from uuid import uuid4

from benchmarks import data
from benchmarks.contenders.latest_state_data import (
    ACCOUNT_SIZES_EVENTS,
    APPENDED_EVENTS,
    QUERIES,
    make_history,
)
from benchmarks.contenders.task import ContenderTask
from benchmarks.role_setup import DATABASE, make_settings
from benchmarks.scenario import Goal, Scenario, ServerAddresses

LABELS = {f"{size:,} events": size for size in reversed(ACCOUNT_SIZES_EVENTS)}

_domain_names: dict[tuple[str, int], str] = {}


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return a task; the contenders of a repeat share a store, each with an account of its own."""
    key = servers.mongo_url, repeat
    name = _domain_names[key] = _domain_names.get(key) or await _fill_store(servers)
    return ContenderTask(
        *servers,
        domain=name,
        partitions=len(ACCOUNT_SIZES_EVENTS),
        records=QUERIES,
        chunk=APPENDED_EVENTS,
        database=DATABASE,
        extra={"size": LABELS[contender]},
    )


async def _fill_store(servers: ServerAddresses) -> str:
    name, settings = f"latest-{uuid4().hex[:8]}", make_settings(servers)
    await data.create_collections(settings, name)
    await data.store_events(
        settings, name, [make_history(name, size)[:size] for size in ACCOUNT_SIZES_EVENTS]
    )
    return name


SCENARIO = Scenario(
    name="latest state",
    unit="queries/s",
    prepare=prepare,
    contenders=dict.fromkeys(LABELS, "latest_state_ours"),
    goals=[
        Goal("10 events", "p50", at_most=1.5),
        Goal("", "events_read", at_most=APPENDED_EVENTS),
        Goal("", "snapshots_read", at_most=1),
    ],
)
