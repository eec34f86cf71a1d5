"""The thread of the Kafka client: fetching, seeking, committing."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from eventfleet.stores.driver_faults import describe
from eventfleet.stores.errors import ServerUnavailable, StoreError
from eventfleet.stores.kafka.client_tasks import ended_tasks
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import close_quietly, translate_errors
from eventfleet.stores.retry import OUTAGE, REQUEST
from eventfleet.workers.faust_log import FAUST_LOGGER
from eventfleet.workers.transport.chunk import Chunk, PartitionBuffer, hand_out
from eventfleet.workers.transport.fetched_records import fetch_log_records
from eventfleet.workers.transport.rest import beat_patiently, fetch_patiently
from eventfleet.workers.transport.static_member import DuplicateInstanceId, StaticMember

LARGE_CHUNK_RECORDS = 5_000
LARGE_FETCH_BYTES = 4_194_304
FETCH_BYTES = 1_048_576
HEARTBEAT_SECONDS = 0.5
REST_HEARTBEAT_SECONDS = 2.0
"""At most this at rest, and a third of the session."""

BUSY_POLL_MS, IDLE_POLL_MS = 100, 2_000
REST_SECONDS = 1.0
"""After this long without a chunk the consumer is at rest, unless a partition is not open."""

TURN_SECONDS = 10.0
"""How long a consumer at rest waits for chunks in one turn."""

NO_GENERATION = -1
JOINING_LOOK_SECONDS = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KafkaConsumerConfig:
    """The topic and group of one app's consumer on Kafka, and its limits; times in seconds.

    `instance_id` is the name of a static member; empty for a member that each start makes anew.
    `chunk_wait` is how long the broker lets records wait for others. `long_polls`: whether it
    answers a request that waits as soon as there is a record. `start_seconds` is how long its start
    waits for Kafka.
    """

    broker: ClassVar[str] = "eventfleet://"
    connection: Connection
    topic: str
    group: str
    chunk_records: int
    chunk_bytes: int
    session_timeout: float
    instance_id: str = ""
    chunk_wait: float = 0.0
    long_polls: bool = True
    start_seconds: float = 0.0

    @property
    def rebalance_timeout(self) -> float:
        """The time that the members of a group wait for each other's last chunks."""
        return 3 * self.session_timeout

    @property
    def request_timeout(self) -> float:
        """Longer than any request may take: joining waits for the other members."""
        return self.rebalance_timeout + self.connection.timeout


class DaemonThread(WorkerThread):  # type: ignore[misc]
    """A worker thread that does not keep a failed process alive."""

    def __init__(self, service: Any, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True

    def run(self) -> None:
        """Run without a traceback at the end: the app reports the error that ended the thread."""
        with suppress(BaseException):
            super().run()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread; fetches records into the partitions' buffers."""

    logger = FAUST_LOGGER
    Worker = DaemonThread

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config: KafkaConsumerConfig = self.app.consumer_config
        self._room = asyncio.Event()
        self._joining = asyncio.Event()
        self._busy_at = time.monotonic()
        self._failures, self._failing_since = 0, 0.0

    async def on_start(self) -> None:
        await self._connect()
        consumer = self._ensure_consumer()
        fetch_log_records(consumer)
        seconds = min(REST_HEARTBEAT_SECONDS, self.config.session_timeout / 3)
        beat_patiently(consumer, lambda: self._is_at_rest, seconds)
        if self.config.long_polls and not self.config.chunk_wait:
            fetch_patiently(consumer, self._poll_ms, IDLE_POLL_MS)
        if self.config.instance_id:
            StaticMember(self.config.session_timeout, self._fail_as_duplicate).attach(consumer)
        self.add_future(self._watch_joining())

    async def _connect(self) -> None:
        """Start the consumer, again for as long as the start of a process may wait for Kafka."""
        ends = time.monotonic() + self.config.start_seconds
        for failures in count(1):
            try:
                async with self._translating():
                    await super().on_start()
                return
            except ServerUnavailable as error:
                await self._close_consumer()
                if self.should_stop or time.monotonic() >= ends:
                    raise
                self._warn("%s will connect again: %s", error)
                await self.sleep(OUTAGE.pause(failures))

    async def on_thread_stop(self) -> None:
        """Leave the group, unless Kafka is away: then it notices by itself."""
        await super(driver.AIOKafkaConsumerThread, self).on_thread_stop()
        await self._close_consumer()

    async def _close_consumer(self) -> None:
        if (consumer := self._consumer) is None:
            return
        if (coordinator := consumer._coordinator) and not self.is_connected:
            coordinator.generation = NO_GENERATION
        await close_quietly(consumer.stop)
        if consumer._fetcher:
            await close_quietly(consumer._fetcher.close)
        await close_quietly(consumer._client.close)

    async def _keepalive2(self) -> None:
        """Look at nothing: liveness is the owners' progress."""

    @driver.ConsumerThread.task  # type: ignore[untyped-decorator]
    async def _thread_keepalive(self) -> None:
        """Wake nothing up: whoever calls the thread wakes its loop."""

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Log nothing: the runner of the app reports the error."""

    async def crash(self, exc: BaseException) -> None:
        """Retrieve the error of a thread that failed before `start` waited for it.

        Otherwise asyncio would log an exception that was never retrieved.
        """
        if (running := self._thread_running) is not None:
            self.parent_loop.call_soon_threadsafe(running.add_done_callback, _retrieve)
        await super().crash(exc)

    def _fail_as_duplicate(self) -> None:
        error = DuplicateInstanceId(self.config.group, self.config.instance_id)
        self.parent_loop.call_soon_threadsafe(self.app.fail, error)

    async def _watch_joining(self) -> None:
        """Report why the group does not take this member: the client tells only those who fetch.

        Until its error is taken the client does not try again, either.
        """
        while not self.should_stop:
            await asyncio.sleep(JOINING_LOOK_SECONDS)
            if self.consumer.joined:
                await self._joining.wait()
                self._joining.clear()
                continue
            self._begin_ended_tasks()
            try:
                async with self._translating():
                    self._ensure_consumer()._coordinator.check_errors()
            except ServerUnavailable:
                continue
            except StoreError as error:
                self.parent_loop.call_soon_threadsafe(self.app.fail, error)
                return

    def _begin_ended_tasks(self) -> None:
        for task in ended_tasks(self._ensure_consumer()):
            self._warn("%s begins the client's task anew that had ended: %s", describe(task.error))
            task.begin()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        config = self.config
        large = config.chunk_records > LARGE_CHUNK_RECORDS
        options = config.connection.options()
        options["request_timeout_ms"] = int(config.request_timeout * 1000)
        return aiokafka.AIOKafkaConsumer(
            client_id=config.group,
            group_id=config.group,
            group_instance_id=config.instance_id or None,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=LARGE_FETCH_BYTES if large else FETCH_BYTES,
            fetch_min_bytes=FETCH_BYTES if config.chunk_wait else 1,
            fetch_max_wait_ms=int(config.chunk_wait * 1000) or BUSY_POLL_MS,
            max_poll_interval_ms=int(self.app.conf.broker_max_poll_interval * 1000),
            session_timeout_ms=int(config.session_timeout * 1000),
            rebalance_timeout_ms=int(config.rebalance_timeout * 1000),
            heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS, config.session_timeout / 3) * 1000),
            **options,
        )

    async def start_session(self, tp: TP, offset: int, session: int) -> bool:
        """Seek; records fetched from now on are of this session. False: not assigned any more."""
        return bool(await self.call_thread(self._start_session, tp, offset, session))

    async def _start_session(self, tp: TP, offset: int, session: int) -> bool:
        try:
            self._ensure_consumer().seek(TopicPartition(*tp), offset)
        except IllegalStateError:
            return False
        self.consumer.buffers[tp] = PartitionBuffer(tp.partition, offset, session)
        self._busy_at = time.monotonic()
        self._room.set()
        return True

    def notify_room(self) -> None:
        """Wake the thread: a partition has room for another chunk."""
        with suppress(RuntimeError):
            self.thread_loop.call_soon_threadsafe(self._room.set)

    def notify_joining(self) -> None:
        """Tell the thread that it has to join the group again."""
        with suppress(RuntimeError):
            self.thread_loop.call_soon_threadsafe(self._joining.set)

    async def chunks(self, timeout: float) -> list[Chunk]:
        """The next chunks of the partitions that have room; empty after `timeout` seconds, at rest
        after TURN_SECONDS, and where the client fails for now."""
        timeout = TURN_SECONDS if self._is_at_rest else timeout
        chunks: list[Chunk] = await self.call_thread(self._chunks, timeout)
        return chunks

    async def _chunks(self, timeout: float) -> list[Chunk]:
        try:
            async with self._translating(timeout):
                chunks = await self._next_chunks(timeout)
        except ServerUnavailable as error:
            if self.should_stop:
                raise
            await self._pause_fetching(error)
            return []
        if self._failures:
            seconds = time.monotonic() - self._failing_since
            self._failures = 0
            self._warn("%s fetches again after %.1f s", seconds)
        return chunks

    async def _pause_fetching(self, error: ServerUnavailable) -> None:
        """Log the first of some failures. In a process that stood still for longer than a fetch
        may take, it has run out of time."""
        if not self._failures:
            self._failing_since = time.monotonic()
            self._warn("%s will fetch again: %s", error)
        self._failures += 1
        await asyncio.sleep(REQUEST.pause(self._failures))

    def _warn(self, text: str, what: object) -> None:
        logger.warning(text, self.app.title, what, extra=self.app.meter.fields)

    def _poll_ms(self) -> int:
        return IDLE_POLL_MS if self._is_at_rest else BUSY_POLL_MS

    @property
    def _is_at_rest(self) -> bool:
        """True when all assigned partitions are open, and none has had a chunk for a while."""
        if time.monotonic() - self._busy_at < REST_SECONDS:
            return False
        consumer, buffers = self._ensure_consumer(), self.consumer.buffers
        found = [buffers.get(TP(*tp)) for tp in consumer.assignment()]
        is_idle = all(buffer is not None and buffer.is_idle for buffer in found)
        return is_idle and not consumer._fetcher._records

    def _translating(self, extra_seconds: float = 0.0) -> AbstractAsyncContextManager[None]:
        connection = self.config.connection
        return translate_errors(
            f"consuming from {connection.bootstrap}", connection.timeout + extra_seconds
        )

    async def _next_chunks(self, timeout: float) -> list[Chunk]:
        """Chunks buffered already, else those the client has fetched, else wait for more."""
        self._room.clear()
        self._begin_ended_tasks()
        wanted = {TopicPartition(*tp): buffer for tp, buffer in self._buffers() if buffer.has_room}
        if buffered := hand_out(wanted.values()):
            return buffered
        for tp in wanted:
            await self._fetch([tp], 0)
        if not (chunks := hand_out(wanted.values())):
            await self._wait([*wanted], timeout)
            chunks = hand_out(buffer for _, buffer in self._buffers())
        return chunks

    async def _wait(self, wanted: list[TopicPartition], timeout: float) -> None:
        """Wait until records came in, another partition has room, or the time is up."""
        waits: set[asyncio.Task[Any]] = {asyncio.create_task(self._room.wait())}
        if wanted:
            waits.add(asyncio.create_task(self._fetch(wanted, timeout)))
        try:
            done, _ = await asyncio.wait(
                waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            pending = [task for task in waits if not task.done()]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _fetch(self, tps: list[TopicPartition], timeout: float) -> None:
        """Fetch into the buffers, with no await between the client's state and ours.

        A partition without a position is one that its owner has yet to seek.
        """
        consumer = self._ensure_consumer()
        try:
            fetched = await consumer.getmany(
                *tps, timeout_ms=int(timeout * 1000), max_records=self.config.chunk_records
            )
        except OffsetOutOfRangeError as error:
            self._interrupt(error.args[0])
            return
        except NoOffsetForPartitionError:
            return
        if fetched:
            self._busy_at = time.monotonic()
        for tp, records in fetched.items():
            buffer, position = self.consumer.buffers.get(TP(*tp)), self.position(tp)
            if buffer and position is not None:
                buffer.add(records, position, self.config.chunk_bytes)

    def _interrupt(self, offsets: Mapping[TopicPartition, int]) -> None:
        """End the sessions that have come to an offset which the log does not have."""
        for tp, offset in offsets.items():
            buffer = self.consumer.buffers.get(TP(*tp))
            if buffer and not buffer.is_interrupted:
                buffer.is_interrupted = True
                reason = f"the log does not have offset {offset} of {tp.topic}/{tp.partition}"
                self.parent_loop.call_soon_threadsafe(
                    self.app.owners.interrupt, tp.partition, buffer.session, reason
                )

    def _buffers(self) -> list[tuple[TP, PartitionBuffer]]:
        return list(self.consumer.buffers.items())

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False when that failed, to be tried again. Faust's own would crash the app."""
        wanted = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        try:
            async with self._translating():
                await self._ensure_consumer().commit(wanted)
        except StoreError as error:
            logger.warning("commit of %s failed: %s", self.config.group, error)
            return False
        return True

    @property
    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_connected(self) -> bool:
        """True while a broker is connected; the group's heartbeats keep one connection in use."""
        connections = self._consumer._client._conns if self._consumer else {}
        return any(each.connected() for each in list(connections.values()))

    def end(self, tp: TP) -> int | None:
        """The offset after the last committed record, as far as the client knows.

        None for a partition that was just revoked, on which the client fails an assertion.
        """
        consumer, partition = self._consumer, TopicPartition(*tp)
        with suppress(IllegalStateError, AttributeError, AssertionError):
            stable = consumer.last_stable_offset(partition)
            known = stable if stable is not None and stable >= 0 else consumer.highwater(partition)
            return int(known) if known is not None else None
        return None

    def position(self, tp: TP) -> int | None:
        """The offset of the next fetch, past control records and aborted ones, too.

        None for a partition that was just assigned: the client does not know it yet.
        """
        with suppress(IllegalStateError, AttributeError, AssertionError):
            assignment = self._consumer._subscription.subscription.assignment
            position = assignment.state_value(TopicPartition(*tp)).position
            return int(position) if position is not None else None
        return None


def _retrieve(running: asyncio.Future[Any]) -> None:
    if not running.cancelled():
        running.exception()
