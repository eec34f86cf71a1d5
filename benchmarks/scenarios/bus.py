"""Scenarios bus: publishing on each of our buses beside its server's bare client."""

import os
from functools import cache, partial
from uuid import uuid4

from benchmarks.contenders.task import ContenderTask
from benchmarks.role_setup import DATABASE
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from tests.servers.nats import Nats

EVENTS = 100_000
SHORT_EVENTS = 20_000
CONTENDERS = {"eventfleet": "bus_ours", "bare client": "bus_bare"}


@cache
def _nats_url() -> str:
    """The server that NATS_URL names, or one that is started here."""
    if url := os.environ.get("NATS_URL"):
        return url
    server = Nats()
    server.start()
    return server.url


async def prepare(bus: str, servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return a task over a channel of its own."""
    channel = f"bus-{uuid4().hex[:8]}"
    extra = {"bus": bus}
    if bus == "nats":
        extra["nats_url"] = _nats_url()
    return ContenderTask(
        *servers,
        domain="",
        topic=channel,
        partitions=4,
        records=SHORT_EVENTS if is_short() else EVENTS,
        chunk=1,
        database=DATABASE,
        extra=extra,
    )


def _scenario(bus: str) -> Scenario:
    return Scenario(
        name=f"bus {bus}",
        unit="events/s",
        prepare=partial(prepare, bus),
        contenders=CONTENDERS,
        goals=[Goal("bare client", at_least=0.8), Goal("bare client", "cpu")],
    )


SCENARIOS = [_scenario(bus) for bus in ("redis", "nats")]
