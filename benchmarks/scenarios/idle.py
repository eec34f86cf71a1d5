"""Scenario idle: a worker of all roles of four domains with nothing to do.

What the runner counts as events are the idle seconds. After them single events are sent, with a
rest before each.
"""

from uuid import uuid4

from benchmarks.contenders.idle_data import declare_domains, make_settings
from benchmarks.contenders.task import ContenderTask
from benchmarks.role_setup import DATABASE
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from eventfleet.cli.local_fleet import free_port
from eventfleet.runtime import connections
from eventfleet.workers.transport.consumer_thread import IDLE_POLL_MS, REST_HEARTBEAT_SECONDS

PARTITIONS = 4
SECONDS = 30
EVENTS, SHORT_EVENTS = 20, 5
BARE = "bare aiokafka"


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Create the topics of domains of this run's own."""
    suffix = uuid4().hex[:8]
    task = ContenderTask(
        *servers,
        domain=suffix,
        group=f"idle-{suffix}",
        partitions=PARTITIONS,
        records=SECONDS,
        chunk=0,
        database=f"{DATABASE}-{suffix}",
        extra={
            "events": SHORT_EVENTS if is_short() else EVENTS,
            "metrics_port": free_port(),
            "consumer": {
                "session_timeout_ms": 6000,
                "heartbeat_interval_ms": int(REST_HEARTBEAT_SECONDS * 1000),
                "fetch_max_wait_ms": IDLE_POLL_MS,
            },
        },
    )
    settings = make_settings(task)
    async with connections.log_admin(settings) as admin:
        for domain in declare_domains(suffix).values():
            await admin.create(connections.topics_of(settings, domain))
    return task


SCENARIO = Scenario(
    name="idle",
    unit="idle s/s",
    prepare=prepare,
    contenders={"eventfleet": "idle_ours", BARE: "idle_bare"},
    goals=[
        Goal(BARE, "cpu", at_most=1.3),
        Goal("", "percent of a core"),
        Goal("", "p50", at_most=0.1),
    ],
)
