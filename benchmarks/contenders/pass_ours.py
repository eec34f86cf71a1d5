"""Pass-through by our batch transport: a role as workers run it, its offsets committed by Faust."""

import asyncio
from collections.abc import Sequence

from benchmarks.contenders.task import LOOP, Clock, Result, Task, run, task, told
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import PartitionWriter
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord
from eventfleet.workers.app import RoleApp, RoleSpec
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owners import Ack
from eventfleet.workers.transport.consumer_thread import FETCH

ROLE = "pass"


class Tally:
    """What all partitions together have seen; `done` when it is all and all is acked."""

    def __init__(self, expected: int) -> None:
        self.clock = Clock()
        self.events = self.check = self.acked = 0
        self.done = asyncio.Event()
        self._expected = expected

    def ack(self, count: int) -> None:
        self.acked += count
        if self.acked == self._expected:
            self.done.set()


class Pass:
    """The role of one partition."""

    def __init__(self, tally: Tally, writer: PartitionWriter) -> None:
        self._tally, self._writer = tally, writer

    async def open(self) -> int:
        return await self._writer.open() or 0

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        tally = self._tally
        tally.clock.start()
        tally.events += len(records)
        tally.check += sum([len(record.value or b"") for record in records])
        await self._writer.commit([], next_offset)
        tally.ack(len(records))
        return ChunkReport()

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    async def close(self) -> None:
        await self._writer.close()


async def main(task: Task) -> None:
    settings = Settings(kafka_brokers=task.kafka, group_prefix=task.group, chunk_records=task.chunk)
    connection, tally = connections.connection(settings), Tally(task.records)
    name = consumer_group(task.group, task.domain, ROLE)

    def make(partition: int, ack: Ack) -> Role:
        writer = PlainWriter(connection, name, (task.topic, partition), ack)
        return Pass(tally, writer)

    app = role_app(settings, connection, RoleSpec(task.domain, ROLE, make), task.topic, Metrics())
    stop = asyncio.Event()
    running = asyncio.create_task(run_apps([app], stop))
    waiting = asyncio.create_task(tally.done.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await _committed(app, task.records)
        tally.clock.stop()
    stop.set()
    await running
    clock = tally.clock
    told(Result(tally.events, clock.seconds, clock.cpu, tally.check, _settings(settings)))


async def _committed(app: RoleApp, expected: int) -> None:
    consumer = app.consumer
    while sum(filter(None, consumer._committed_offset.values())) < expected:
        await consumer.commit()
        await asyncio.sleep(0)


def _settings(settings: Settings) -> dict[str, object]:
    return {
        "chunk": settings.chunk_records,
        "fetch bytes": FETCH,
        "isolation": "read_committed",
        "commit": "each chunk",
        "event loop": LOOP,
    }


if __name__ == "__main__":
    run(main(task()))
