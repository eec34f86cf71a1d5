"""WorkerLog: the log as a worker's agents consume it, and as their roles write to it."""

from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Protocol

from eventfleet.runtime import connections
from eventfleet.runtime.file_backend import FileBackend
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.settings import Settings
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import PartitionWriter
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.remembering_writer import RememberingWriter
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.log import SqliteTransactionalWriter
from eventfleet.stores.sqlite.log_cleaner import KEPT, SqliteLogCleaner
from eventfleet.workers.owner import Ack
from eventfleet.workers.transport import (
    ConsumerConfig,
    KafkaConsumerConfig,
    SqliteConsumerConfig,
)

CLEAN_SECONDS = 3_600.0


class WorkerLog(Protocol):
    """A log with consumer groups. `transactional`: whether it has transactions."""

    @property
    def transactional(self) -> bool: ...

    def writer(self, group: str, topic: str, partition: int, ack: Ack) -> PartitionWriter:
        """Make the writer of a group's member that consumes a partition."""

    def consumer(
        self, settings: Settings, topic: str, group: str, start_seconds: float = 0.0
    ) -> ConsumerConfig:
        """Describe the consumer of a group; its start may wait `start_seconds` for the log."""

    def kept(self, settings: Settings) -> AbstractAsyncContextManager[None]:
        """Do within the block what the log needs for its keep."""


def worker_log(settings: Settings, transactional: bool) -> WorkerLog:
    """The log that the settings name."""
    backend = connections.backend(settings)
    if isinstance(backend, FileBackend):
        return SqliteLog(backend.database)
    assert isinstance(backend, ServerBackend)
    return KafkaLog(backend.connection(), transactional)


class KafkaLog:
    """The log on Kafka.

    A broker without transactions looks for new records only every quarter of the time that a
    request may wait: it is not asked to wait for long.
    """

    def __init__(self, connection: Connection, transactional: bool = True) -> None:
        self._connection, self.transactional = connection, transactional

    def writer(self, group: str, topic: str, partition: int, ack: Ack) -> PartitionWriter:
        if not self.transactional:
            return PlainWriter(self._connection, group, (topic, partition), ack)
        return RememberingWriter(TransactionalWriter(self._connection, group, topic, partition))

    def consumer(
        self, settings: Settings, topic: str, group: str, start_seconds: float = 0.0
    ) -> KafkaConsumerConfig:
        return KafkaConsumerConfig(
            *(self._connection, topic, group),
            *(settings.chunk_records, settings.chunk_bytes, settings.kafka_session_timeout),
            settings.kafka_instance_id,
            settings.chunk_wait,
            self.transactional,
            start_seconds,
        )

    def kept(self, settings: Settings) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class SqliteLog:
    """The log in a file, which one process has open."""

    transactional = True

    def __init__(self, database: Database) -> None:
        self._database = database

    def writer(self, group: str, topic: str, partition: int, ack: Ack) -> PartitionWriter:
        return SqliteTransactionalWriter(self._database, group, topic, partition)

    def consumer(
        self, settings: Settings, topic: str, group: str, start_seconds: float = 0.0
    ) -> SqliteConsumerConfig:
        return SqliteConsumerConfig(
            self._database, topic, group, settings.chunk_records, settings.chunk_bytes
        )

    def kept(self, settings: Settings) -> AbstractAsyncContextManager[None]:
        hours = settings.retention_hours
        kept = timedelta(hours=hours) if hours > 0 else KEPT
        return BackgroundTask("log cleaner", partial(self._clean, kept)).running()

    async def _clean(self, kept: timedelta) -> None:
        """Remove what all groups have passed, again and again."""
        cleaner, clock = SqliteLogCleaner(self._database, kept), SystemClock()
        while True:
            await cleaner.clean(clock.now())
            await clock.sleep(CLEAN_SECONDS)
