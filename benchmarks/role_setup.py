"""The role scenarios' shared part: a domain of its own for each run, and the audit."""

from typing import Any
from uuid import uuid4

from benchmarks import data
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import ServerAddresses, is_short
from eventfleet.audit import Auditor, AuditReport
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import DomainStores, LogReader
from eventfleet.topics.names import consumer_group
from eventfleet.workers.agents import agent_class

DATABASE = "eventfleet_bench"
PARTITIONS = 4
CHUNK_RECORDS = data.CHUNK_RECORDS
TIMEOUT_SECONDS = 60.0
FULL_SIZE = data.DatasetSize(200_000, 10_000, PARTITIONS)


class VerificationFailed(Exception):
    """Raised when a run stored wrong data."""


def make_settings(servers: ServerAddresses) -> Settings:
    """Return the settings of the setup and the audit of a run."""
    return Settings(
        kafka_brokers=servers.kafka,
        mongo_url=servers.mongo_url,
        mongo_database=DATABASE,
        partitions=PARTITIONS,
        mongo_timeout=TIMEOUT_SECONDS,
        kafka_timeout=TIMEOUT_SECONDS,
    )


def dataset_size() -> data.DatasetSize:
    """Return the data's size; in a full run 1,500 of 10,000 aggregates exceed 100 events."""
    return data.DatasetSize(60_000, 3000, PARTITIONS) if is_short() else FULL_SIZE


async def set_up_role(
    servers: ServerAddresses, role: str, size: data.DatasetSize
) -> tuple[ContenderTask, data.EventsByPartition]:
    """Create a new domain's topics and collections; return its task and events."""
    task = make_task(servers, role, size, DATABASE)
    settings = make_settings(servers)
    await data.create_topics(settings, task.domain)
    await data.create_collections(settings, task.domain)
    return task, data.make_events(task.domain, size)


def make_task(
    servers: ServerAddresses, role: str, size: data.DatasetSize, database: str
) -> ContenderTask:
    """Return the task of a role of a domain with a new name."""
    name = f"{role}-{uuid4().hex[:8]}"
    return ContenderTask(
        *servers,
        domain=name,
        topic=agent_class(role).source_of(data.declare_ledger(name)),
        group=consumer_group(Settings().group_prefix, name, role),
        partitions=PARTITIONS,
        records=size.events,
        chunk=CHUNK_RECORDS,
        database=database,
    )


async def audit(
    domain: Domain[Any], stores: DomainStores, reader: LogReader, settings: Settings
) -> AuditReport:
    """Return the report of a clean audit. VerificationFailed: it is not clean."""
    options: Any = {"group_prefix": settings.group_prefix, "exactly_once": True}
    report = await Auditor(domain, stores, reader, **options).run()
    if not report.clean:
        found = [*report.violations, *report.problems]
        raise VerificationFailed(f"{domain.name}: {found[:5]}")
    return report


async def verify_role(servers: ServerAddresses, task: ContenderTask, role: str) -> None:
    """Raise VerificationFailed unless all is stored, relayed and committed and the audit clean."""
    await verify_stored(make_settings(servers), task, role)


async def verify_stored(settings: Settings, task: ContenderTask, role: str) -> None:
    """Do what `verify_role` does, on the servers or the file of the settings."""
    domain = data.declare_ledger(task.domain)
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        committed = sum((await reader.committed(task.group, task.topic)).values())
        report = await audit(domain, stores[domain.name], reader, settings)
    counts = {"committed": committed, "stored": report.stored, "relayed": report.relayed}
    counts["snapshots"] = report.snapshots
    for name, expected in {"committed": task.records, "stored": task.records, **task.extra}.items():
        if counts.get(name, expected) != expected:
            raise VerificationFailed(f"{role}: {counts[name]} {name}, not {expected}")
