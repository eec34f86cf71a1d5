"""What the lines of the roles have in common: a domain of its own for each run, and the audit."""

from uuid import uuid4

from benchmarks import data
from benchmarks.contenders.task import Task
from benchmarks.scenario import Servers, short
from eventfleet.audit import Auditor
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.topics.names import consumer_group
from eventfleet.workers.duties import RoleName, source_of

DATABASE = "eventfleet_bench"
PARTITIONS = 4
CHUNK = data.CHUNK
PATIENCE = 60.0
FULL = data.Amount(200_000, 10_000, PARTITIONS)


class Wrong(Exception):
    """What a run stored is not right."""


def settings_of(servers: Servers) -> Settings:
    """Those of what happens around a run."""
    return Settings(
        kafka_brokers=servers.kafka,
        mongo_url=servers.mongo_url,
        mongo_database=DATABASE,
        partitions=PARTITIONS,
        mongo_timeout=PATIENCE,
        kafka_timeout=PATIENCE,
    )


def amount() -> data.Amount:
    """In full 1,500 of 10,000 aggregates come past 100 events."""
    return data.Amount(60_000, 3000, PARTITIONS) if short() else FULL


async def begin(servers: Servers, role: RoleName, events: data.Amount) -> tuple[Task, data.Placed]:
    """A new domain with its topics and collections, and the events that its run is about."""
    name = f"{role}-{uuid4().hex[:8]}"
    settings, placed = settings_of(servers), data.made(name, events)
    await data.make_topics(settings, name)
    await data.make_stores(settings, name)
    task = Task(
        kafka=servers.kafka,
        mongo_url=servers.mongo_url,
        redis_url=servers.redis_url,
        domain=name,
        topic=source_of(role, data.ledger(name)),
        group=consumer_group(settings.group_prefix, name, role),
        partitions=PARTITIONS,
        records=events.events,
        chunk=CHUNK,
        database=DATABASE,
    )
    return task, placed


async def check(servers: Servers, task: Task, role: RoleName) -> None:
    """Wrong unless all is stored, passed on and committed, and the audit is clean."""
    settings, domain = settings_of(servers), data.ledger(task.domain)
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        committed = sum((await reader.committed(task.group, task.topic)).values())
        auditor = Auditor(
            domain,
            stores[domain.name],
            reader,
            group_prefix=settings.group_prefix,
            exactly_once=True,
        )
        report = await auditor.run()
    if not report.clean:
        raise Wrong(f"{role}: {len(report.violations)} violations: {report.violations[0]}")
    found = {"committed": committed, "stored": report.stored, "relayed": report.relayed}
    found["snapshots"] = report.snapshots
    for name, expected in {"committed": task.records, "stored": task.records, **task.more}.items():
        if found.get(name, expected) != expected:
            raise Wrong(f"{role}: {found[name]} {name}, not {expected}")
