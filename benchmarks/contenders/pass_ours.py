"""Pass-through by our batch transport: a role as workers run it, its offsets committed by Faust."""

import asyncio
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders.scraping import scraped
from benchmarks.contenders.task import (
    EVENT_LOOP,
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import PartitionWriter
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord
from eventfleet.workers.agent import Agent, FaustApp
from eventfleet.workers.app import RoleApp
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack, RoleFactory
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport.chunk import ChunkSchema
from eventfleet.workers.transport.consumer_thread import FETCH_BYTES
from eventfleet.workers.worker_log import KafkaLog

ROLE = "pass"


class PassCounter:
    """Counts the records of all partitions; sets `done` when all are acked."""

    def __init__(self, expected: int) -> None:
        self.clock = Stopwatch()
        self.events = self.value_bytes = self.acked = 0
        self.done = asyncio.Event()
        self._expected = expected

    def ack(self, count: int) -> None:
        self.acked += count
        if self.acked == self._expected:
            self.done.set()


class PassRole:
    """Passes over the records of one partition."""

    def __init__(self, counter: PassCounter, writer: PartitionWriter) -> None:
        self._counter, self._writer = counter, writer

    async def open(self) -> int:
        return await self._writer.open() or 0

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        counter = self._counter
        counter.clock.start()
        counter.events += len(records)
        counter.value_bytes += sum([len(record.value or b"") for record in records])
        await self._writer.commit([], next_offset)
        counter.ack(len(records))
        return ChunkReport()

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    @property
    def at_rest(self) -> bool:
        return True

    async def close(self) -> None:
        await self._writer.close()


class PassAgent(Agent):
    """Consumes the task's topic."""

    role = ROLE

    def __init__(self, task: ContenderTask, make: RoleFactory) -> None:
        super().__init__(task.domain, task.topic, task.group)
        self._make = make

    def attach(self, app: FaustApp, owners: Owners) -> None:
        @app.agent(app.topic(self.source, schema=ChunkSchema()), name=self.group)
        async def pass_through(stream: Any) -> None:
            async for event in stream.noack().events():
                owners.dispatch(event.value)

    def make_role(self, partition: int, ack: Ack) -> Role:
        return self._make(partition, ack)


async def main(task: ContenderTask) -> None:
    settings = Settings(kafka_brokers=task.kafka, group_prefix=task.group, chunk_records=task.chunk)
    connection, counter = ServerBackend(settings).connection(), PassCounter(task.records)
    name = consumer_group(task.group, task.domain, ROLE)

    def make(partition: int, ack: Ack) -> Role:
        writer = PlainWriter(connection, name, (task.topic, partition), ack)
        return PassRole(counter, writer)

    metrics = Metrics()
    app = role_app(settings, KafkaLog(connection), PassAgent(task, make), metrics)
    async with scraped(HealthServer(metrics, [app]).served("127.0.0.1", 0)):
        await _run(app, counter, task.records)
    clock = counter.clock
    write_result(
        Result(
            counter.events,
            clock.seconds,
            clock.cpu,
            counter.value_bytes,
            _describe_settings(settings),
        )
    )


async def _run(app: RoleApp, counter: PassCounter, records: int) -> None:
    """Run the app until all is committed, and stop the clock then."""
    stop = asyncio.Event()
    app_task = asyncio.create_task(run_apps([app], stop))
    done_task = asyncio.create_task(counter.done.wait())
    await asyncio.wait({app_task, done_task}, return_when=asyncio.FIRST_COMPLETED)
    if not app_task.done():
        await _wait_for_commit(app, records)
        counter.clock.stop()
    stop.set()
    await app_task


async def _wait_for_commit(app: RoleApp, expected: int) -> None:
    consumer = app.consumer
    while sum(filter(None, consumer._committed_offset.values())) < expected:
        await consumer.commit()
        await asyncio.sleep(0)


def _describe_settings(settings: Settings) -> dict[str, object]:
    return {
        "chunk": settings.chunk_records,
        "fetch bytes": FETCH_BYTES,
        "isolation": "read_committed",
        "commit": "each chunk",
        "event loop": EVENT_LOOP,
    }


if __name__ == "__main__":
    run(main(read_task()))
