"""Our roles: the duty that `eventfleet worker ROLE` runs, in this process, until all is through."""

import asyncio
from collections.abc import Sequence

from benchmarks import data
from benchmarks.contenders.task import Clock, Result, Task, told
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.record import LogRecord
from eventfleet.workers.app import RoleSpec
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.duties import Duties, RoleName, source_of
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owners import Ack


class Tally:
    """What the roles of all partitions have done; `stop` is set when it is everything."""

    def __init__(self, records: int) -> None:
        self.clock = Clock()
        self.stop = asyncio.Event()
        self.check = 0
        self._left = records

    def taken(self, records: Sequence[LogRecord]) -> None:
        self.clock.start()
        self.check += sum(len(record.value or b"") for record in records)

    def done(self, records: Sequence[LogRecord]) -> None:
        self._left -= len(records)
        if self._left == 0:
            self.clock.stop()
            self.stop.set()


class Counted:
    """A role whose chunks are counted."""

    def __init__(self, role: Role, tally: Tally) -> None:
        self._role, self._tally = role, tally
        self.open, self.tick, self.close = role.open, role.tick, role.close

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        self._tally.taken(records)
        report = await self._role.chunk(records, next_offset)
        self._tally.done(records)
        return report


def settings_of(task: Task) -> Settings:
    """Our settings, where the task asks for others than the default."""
    return Settings(
        kafka_brokers=task.kafka,
        mongo_url=task.mongo_url,
        mongo_database=task.database,
        partitions=task.partitions,
        chunk_records=task.chunk,
    )


async def work(name: RoleName, task: Task) -> None:
    """Run the role over the task's topic, and tell."""
    settings, domain = settings_of(task), data.ledger(task.domain)
    tally = Tally(task.records)
    async with connections.stores(settings, {domain.name: domain}) as stores:
        connection = connections.connection(settings)
        duties = Duties(settings, connection, True, {}, Producer(connection))
        duty = duties.duty(name, domain, stores[domain.name])

        def make(partition: int, ack: Ack) -> Role:
            return Counted(duty.make(partition, ack), tally)

        counted = RoleSpec(duty.domain, duty.role, make)
        topic = source_of(name, domain)
        app = role_app(settings, duties.connection, counted, topic, Metrics())
        await run_apps([app], tally.stop)
    clock = tally.clock
    told(Result(task.records, clock.seconds, clock.cpu, tally.check, _settings(name, settings)))


def _settings(name: RoleName, settings: Settings) -> dict[str, str]:
    return {
        "chunk": str(settings.chunk_records),
        "fetch": "1 MiB" if settings.chunk_records <= 5000 else "4 MiB",
        "acks": "all, transactional",
        "isolation": "read_committed",
        "compression": "none",
        "event loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
    } | ({"write concern": "majority, journal"} if name != "relay" else {})
