"""Our roles, as `eventfleet worker ROLE` runs them, in this process, until all is committed."""

import asyncio
from collections.abc import Sequence

from benchmarks import data
from benchmarks.contenders.scraping import is_scraped, scraped
from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, write_result
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.runtime import connections
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import LogWriter
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.record import LogRecord
from eventfleet.workers.agent import DomainAgent, WorkerContext
from eventfleet.workers.agents import agent_class
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack
from eventfleet.workers.worker_log import KafkaLog, WorkerLog


class RunCounter:
    """Counts the records of all partitions; sets `stop` when all are committed."""

    def __init__(self, records: int) -> None:
        self.clock = Stopwatch()
        self.stop = asyncio.Event()
        self.value_bytes = 0
        self._remaining = records

    def count_taken(self, records: Sequence[LogRecord]) -> None:
        self.clock.start()
        self.value_bytes += sum(len(record.value or b"") for record in records)

    def count_done(self, records: Sequence[LogRecord]) -> None:
        self._remaining -= len(records)
        if self._remaining == 0:
            self.clock.stop()
            self.stop.set()


class CountedRole:
    """Wraps a role and counts its chunks."""

    def __init__(self, role: Role, counter: RunCounter) -> None:
        self._role, self._counter = role, counter
        self.open, self.tick, self.close = role.open, role.tick, role.close

    @property
    def at_rest(self) -> bool:
        return self._role.at_rest

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        self._counter.count_taken(records)
        report = await self._role.process(records, next_offset)
        self._counter.count_done(records)
        return report


def counting_agent(agent: type[DomainAgent], counter: RunCounter) -> type[DomainAgent]:
    """Return the same agent class with counted roles."""

    class CountingAgent(agent):  # type: ignore[misc, valid-type]
        def make_role(self, partition: int, ack: Ack) -> Role:
            return CountedRole(super().make_role(partition, ack), counter)

    return CountingAgent


def make_settings(task: ContenderTask) -> Settings:
    """Return the task's settings; the others have their defaults."""
    return Settings(
        kafka_brokers=task.kafka,
        mongo_url=task.mongo_url,
        mongo_database=task.database,
        partitions=task.partitions,
        chunk_records=task.chunk,
    )


async def run_role(name: str, task: ContenderTask) -> None:
    """Run the role over the task's topic and write the result."""
    settings = make_settings(task)
    connection = ServerBackend(settings).connection()
    counter = RunCounter(task.records)
    await count_role(name, task, settings, KafkaLog(connection), Producer(connection), counter)
    write_counted(task, counter, _describe_settings(name, settings))


async def count_role(
    name: str,
    task: ContenderTask,
    settings: Settings,
    log: WorkerLog,
    writer: LogWriter,
    counter: RunCounter,
) -> None:
    """Run the role over the task's topic until all records are counted."""
    domain = data.declare_ledger(task.domain)
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        connections.log_reader(settings) as reader,
    ):
        metrics = Metrics()
        context = WorkerContext(settings, log, writer, reader, metrics=metrics)
        agent_type = counting_agent(agent_class(name), counter)
        agent = agent_type(domain, stores[domain.name], context)
        apps = [role_app(settings, log, agent, metrics)]
        async with scraped(HealthServer(metrics, apps).served("127.0.0.1", 0)):
            await run_apps(apps, counter.stop)


def write_counted(task: ContenderTask, counter: RunCounter, described: dict[str, str]) -> None:
    """Write the result of a run; its settings are those `described` and what all runs share."""
    clock = counter.clock
    shared = {
        "chunk": str(task.chunk),
        "event loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
        "metrics": "scraped each second" if is_scraped() else "not scraped",
    }
    write_result(
        Result(task.records, clock.seconds, clock.cpu, counter.value_bytes, shared | described)
    )


def _describe_settings(name: str, settings: Settings) -> dict[str, str]:
    return {
        "fetch": "1 MiB" if settings.chunk_records <= 5000 else "4 MiB",
        "acks": "all, transactional",
        "isolation": "read_committed",
        "compression": "none",
    } | ({"write concern": "majority, journal"} if name != "relay" else {})
