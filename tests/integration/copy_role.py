"""A worker process whose role copies its topic: each record once, to the same partition."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eventfleet.roles.role import ChunkReport, Role
from eventfleet.roles.takeover import take_over
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import PartitionWriter
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.workers.agent import Agent
from eventfleet.workers.app_runner import role_app, run_apps, stop_signals
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack, RoleFactory
from eventfleet.workers.worker_log import KafkaLog

ROLE = "copy"


@dataclass
class Copy:
    """Copies; `mood` sees every chunk first, and may raise or wait."""

    writer: PartitionWriter
    target: str
    mood: "Mood"
    chunks: list[tuple[int, int]] = field(default_factory=list)

    async def open(self) -> int:
        return await take_over(self.writer, "set it") or 0

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        await self.mood.see(records)
        copies = [
            ProducerRecord(self.target, r.key, r.value, r.partition, (("at", b"%d" % r.offset),))
            for r in records
        ]
        await self.writer.commit(copies, next_offset)
        self.chunks.append((records[0].offset, next_offset))
        return ChunkReport(emitted=len(copies))

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    @property
    def at_rest(self) -> bool:
        return True

    async def close(self) -> None:
        await self.writer.close()


class CopyAgent(Agent):
    """An agent over any topic, whose roles `make` makes."""

    role = ROLE

    def __init__(self, settings: Settings, source: str, make: RoleFactory) -> None:
        super().__init__(source, source, settings.group_prefix)
        self._make = make

    def make_role(self, partition: int, ack: Ack) -> Role:
        return self._make(partition, ack)


@dataclass
class Mood:
    """When to fail: every n-th chunk as unavailable, or at a record's value for good."""

    pause: float = 0.0
    unavailable_every: int = 0
    fatal_at: bytes = b""
    crash_at: bytes = b""
    seen: int = 0

    async def see(self, records: Sequence[LogRecord]) -> None:
        self.seen += 1
        await asyncio.sleep(self.pause)
        if self.unavailable_every and self.seen % self.unavailable_every == 0:
            raise ServerUnavailable("the store is out for a moment")
        values = {record.value for record in records}
        if self.fatal_at and self.fatal_at in values:
            raise EventfleetError("this record can't be used")
        if self.crash_at and self.crash_at in values:
            raise ZeroDivisionError("a bug")


def copying(settings: Settings, source: str, mood: Mood, transactional: bool = True) -> RoleFactory:
    """Makes Copy roles to `<source>.copy`."""
    connection = Connection(settings.kafka_brokers)
    name = consumer_group(settings.group_prefix, source, ROLE)

    def make(partition: int, ack: Ack) -> Role:
        writer: PartitionWriter = (
            TransactionalWriter(connection, name, source, partition)
            if transactional
            else PlainWriter(connection, name, (source, partition), ack)
        )
        return Copy(writer, f"{source}.copy", mood)

    return make


async def work(settings: Settings, source: str, mood: Mood, url_file: Path) -> None:
    """Run until a signal; the page's URL is written to `url_file`."""
    metrics = Metrics()
    agent = CopyAgent(settings, source, copying(settings, source, mood))
    apps = [role_app(settings, KafkaLog(Connection(settings.kafka_brokers)), agent, metrics)]
    async with stop_signals() as stop, HealthServer(metrics, apps).served("127.0.0.1", 0) as url:
        url_file.with_suffix(".new").write_text(url)
        url_file.with_suffix(".new").rename(url_file)
        await run_apps(apps, stop)


def main() -> None:
    source, url_file, fatal_at, crash_at = sys.argv[1:]
    mood = Mood(
        pause=float(os.environ.get("PAUSE", "0")),
        fatal_at=fatal_at.encode(),
        crash_at=crash_at.encode(),
    )
    try:
        asyncio.run(work(Settings(), source, mood, Path(url_file)))
    except EventfleetError as error:
        sys.exit(f"eventfleet: {error}")


if __name__ == "__main__":
    main()
