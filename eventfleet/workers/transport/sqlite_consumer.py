"""Consumes the log in a file of SQLite, on the app's own loop."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from faust.types import TP
from mode import Service

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import REQUEST
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.log_rows import PartitionRow, read_pages
from eventfleet.topics.record import LogRecord
from eventfleet.workers.faust_log import FAUST_LOGGER
from eventfleet.workers.transport.chunk import Chunk, PartitionBuffer, hand_out
from eventfleet.workers.transport.consumer import Consumer

TURN_SECONDS = 10.0
"""How long a consumer waits for chunks in one turn."""

TRICKLE_SECONDS = 0.2
"""Between two reads of a few records that nobody waits for. What comes meanwhile is read together:
each chunk costs the process, which does all the work, more than its records do."""

GENERATION = 1
"""Of each group: its one member is assigned all partitions, once."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SqliteConsumerConfig:
    """The topic and group of one app's consumer, and its limits; times in seconds."""

    broker: ClassVar[str] = "eventfleetsqlite://"
    database: Database
    topic: str
    group: str
    chunk_records: int
    chunk_bytes: int
    session_timeout: ClassVar[float] = 10.0
    request_timeout: ClassVar[float] = 30.0


class LogFetcher(Service):  # type: ignore[misc]
    """Fetches records into the partitions' buffers, woken by each commit to the topic."""

    logger = FAUST_LOGGER
    is_connected = True

    def __init__(self, consumer: "SqliteConsumer", **options: Any) -> None:
        super().__init__(**options)
        self.consumer, self.app = consumer, consumer.app
        self.config: SqliteConsumerConfig = self.app.consumer_config
        self._assigned: set[TP] = set()
        self._ends: dict[int, int] = {}
        self._changed, self._awaited = asyncio.Event(), asyncio.Event()
        self._watch = ExitStack()
        self._failures, self._read_at = 0, 0.0

    async def on_start(self) -> None:
        watching = self.config.database.watching(self.config.topic, self._awaited)
        self._changed = self._watch.enter_context(watching)

    async def on_stop(self) -> None:
        self._watch.close()

    @property
    def is_alive(self) -> bool:
        return bool(self.started) and not self.should_stop

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Have the partitions assigned soon: Faust waits for the subscription before that."""
        if not self._assigned:
            self.add_future(self._assign())

    async def _assign(self) -> None:
        config = self.config
        try:
            rows, _ = await config.database.read(lambda c: read_pages(c, config.topic, {}, 0))
        except ServerUnavailable as error:
            self.app.fail(error)
            return
        self._assigned = {TP(config.topic, row.partition) for row in rows}
        self.app.on_rebalance_start()
        self.app.consumer_generation_id = GENERATION
        await self.consumer.on_partitions_assigned(set(self._assigned), GENERATION)

    def assignment(self) -> set[TP]:
        return self._assigned

    async def start_session(self, tp: TP, offset: int, session: int) -> bool:
        """Fetch from this offset on, at once. False: not assigned any more."""
        if tp not in self._assigned:
            return False
        self.consumer.buffers[tp] = PartitionBuffer(tp.partition, offset, session)
        self._changed.set()
        self._awaited.set()
        return True

    def notify_room(self) -> None:
        """Fetch on: a partition has room for another chunk."""
        self._changed.set()

    def notify_joining(self) -> None:
        """Give all partitions up, for good: this is how an app ends."""
        self._assigned = set()
        self._changed.set()
        self._awaited.set()

    async def chunks(self, timeout: float) -> list[Chunk]:
        """The next chunks of the partitions that have room; empty after TURN_SECONDS, where the
        file can't be read for now, and `timeout` seconds after partitions were given up."""
        try:
            async with asyncio.timeout(TURN_SECONDS if self._assigned else timeout):
                while not (chunks := await self._next_chunks()):
                    await self._changed.wait()
                    if not self._assigned:
                        return []
        except TimeoutError:
            return []
        except ServerUnavailable as error:
            await self._pause_fetching(error)
            return []
        self._failures = 0
        return chunks

    async def _next_chunks(self) -> list[Chunk]:
        if buffered := hand_out(self.consumer.buffers.values()):
            return buffered
        await self._let_gather()
        self._changed.clear()
        config, buffers = self.config, self.consumer.buffers.values()
        wanted = {each.partition: each for each in buffers if each.has_room}
        starts = {partition: each.fetched for partition, each in wanted.items()}
        rows, pages = await config.database.read(
            lambda connection: read_pages(connection, config.topic, starts, config.chunk_records)
        )
        for row in rows:
            self._ends[row.partition] = row.end
            if (buffer := wanted.get(row.partition)) is not None:
                self._fill(buffer, row, pages.get(row.partition, []))
        chunks = hand_out(wanted.values())
        is_trickle = chunks and max(len(each.records) for each in chunks) < config.chunk_records
        self._read_at = time.monotonic() if is_trickle else 0.0
        return chunks

    async def _let_gather(self) -> None:
        """Let records come until it is time to read, or somebody waits for one."""
        left = self._read_at + TRICKLE_SECONDS - time.monotonic()
        if left > 0 and self._assigned:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._awaited.wait()
        self._awaited.clear()

    def _fill(self, buffer: PartitionBuffer, row: PartitionRow, page: list[LogRecord]) -> None:
        if not row.oldest <= buffer.fetched <= row.end:
            buffer.is_interrupted = True
            where = f"{self.config.topic}/{row.partition}"
            reason = f"the log does not have offset {buffer.fetched} of {where}"
            self.app.owners.interrupt(row.partition, buffer.session, reason)
        elif page:
            buffer.add(page, page[-1].offset + 1, self.config.chunk_bytes)

    async def _pause_fetching(self, error: ServerUnavailable) -> None:
        if not self._failures:
            text = "%s will fetch again: %s"
            logger.warning(text, self.app.title, error, extra=self.app.meter.fields)
        self._failures += 1
        await asyncio.sleep(REQUEST.pause(self._failures))

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit nothing: the roles' writers move the offsets."""
        return True

    def end(self, tp: TP) -> int | None:
        """The offset after the last record, as far as it was seen."""
        return self._ends.get(tp.partition)

    def position(self, tp: TP) -> int | None:
        """The offset of the next fetch; None before a session."""
        buffer = self.consumer.buffers.get(tp)
        return buffer.fetched if buffer else None

    def close(self) -> None:
        """There is nothing to release."""


class SqliteConsumer(Consumer):
    """The consumer of a group of one process."""

    def _new_consumer_thread(self) -> LogFetcher:
        return LogFetcher(self, loop=self.loop, beacon=self.beacon)
