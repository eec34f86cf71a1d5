"""The thread that talks to Kafka: fetching, seeking, committing."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import translate_errors
from eventfleet.workers.transport.chunk import Chunk, PartitionBuffer
from eventfleet.workers.transport.fetched_records import read_as_ours

LARGE_CHUNK = 5_000
LARGE_FETCH = 4_194_304
FETCH = 1_048_576
HEARTBEAT = 0.5
LONG_POLL_MS = 100


@dataclass(frozen=True)
class ConsumerConfig:
    """What one app consumes, and how; times in seconds."""

    connection: Connection
    topic: str
    group: str
    chunk_records: int
    chunk_bytes: int
    session_timeout: float

    @property
    def rebalance_timeout(self) -> float:
        """How long the members of a group wait for each other's last chunks."""
        return 3 * self.session_timeout

    @property
    def request_timeout(self) -> float:
        """Longer than any answer may take: joining waits for the other members."""
        return self.rebalance_timeout + self.connection.timeout


class DaemonThread(WorkerThread):  # type: ignore[misc]
    """A thread that does not keep a failed process alive."""

    def __init__(self, service: Any, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True

    def run(self) -> None:
        """What ends the thread is told to the app, which reports it."""
        with suppress(Exception):
            super().run()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, fetching chunks."""

    Worker = DaemonThread

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source: ConsumerConfig = self.app.source
        self._room = asyncio.Event()

    async def on_start(self) -> None:
        async with self._answering():
            await super().on_start()
        read_as_ours(self._ensure_consumer())

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Say nothing: who runs the app reports what ended it."""

    async def crash(self, exc: BaseException) -> None:
        """A thread that fails before `start` waits for it leaves a reason that no one takes."""
        if (running := self._thread_running) is not None:
            self.parent_loop.call_soon_threadsafe(running.add_done_callback, _taken)
        await super().crash(exc)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        source = self.source
        large = source.chunk_records > LARGE_CHUNK
        options = source.connection.options()
        options["request_timeout_ms"] = int(source.request_timeout * 1000)
        return aiokafka.AIOKafkaConsumer(
            client_id=source.group,
            group_id=source.group,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=LARGE_FETCH if large else FETCH,
            fetch_max_wait_ms=LONG_POLL_MS,
            max_poll_interval_ms=int(self.app.conf.broker_max_poll_interval * 1000),
            session_timeout_ms=int(source.session_timeout * 1000),
            rebalance_timeout_ms=int(source.rebalance_timeout * 1000),
            heartbeat_interval_ms=int(min(HEARTBEAT, source.session_timeout / 3) * 1000),
            **options,
        )

    async def start_at(self, tp: TP, offset: int, session: int) -> bool:
        """Seek; what is fetched from now on is of this session. False: not assigned any more."""
        return bool(await self.call_thread(self._start_at, tp, offset, session))

    async def _start_at(self, tp: TP, offset: int, session: int) -> bool:
        try:
            self._ensure_consumer().seek(TopicPartition(*tp), offset)
        except IllegalStateError:
            return False
        self.consumer.lanes[tp] = PartitionBuffer(tp.partition, offset, session)
        self._room.set()
        return True

    def room(self) -> None:
        """Tell the thread that a partition has room again."""
        with suppress(RuntimeError):
            self.thread_loop.call_soon_threadsafe(self._room.set)

    async def chunks(self, timeout: float) -> list[Chunk]:
        """What has come in of the partitions that have room; empty after `timeout` seconds."""
        chunks: list[Chunk] = await self.call_thread(self._translated, timeout)
        return chunks

    async def _translated(self, timeout: float) -> list[Chunk]:
        async with self._answering(timeout):
            return await self._chunks(timeout)

    def _answering(self, more: float = 0.0) -> AbstractAsyncContextManager[None]:
        connection = self.source.connection
        return translate_errors(f"consuming from {connection.bootstrap}", connection.timeout + more)

    async def _chunks(self, timeout: float) -> list[Chunk]:
        self._room.clear()
        wanted = {TopicPartition(*tp): lane for tp, lane in self._lanes() if lane.has_room}
        if waiting := _handed_out(wanted.values()):
            return waiting
        for tp in wanted:
            await self._take([tp], 0)
        if not (chunks := _handed_out(wanted.values())):
            await self._wait([*wanted], timeout)
            chunks = _handed_out(lane for _, lane in self._lanes())
        return chunks

    async def _wait(self, wanted: list[TopicPartition], timeout: float) -> None:
        """Until something came in, another partition has room, or the time is up."""
        waits: set[asyncio.Task[Any]] = {asyncio.create_task(self._room.wait())}
        if wanted:
            waits.add(asyncio.create_task(self._take(wanted, timeout)))
        done, pending = await asyncio.wait(
            waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _take(self, tps: list[TopicPartition], timeout: float) -> None:
        """Fetch into the lanes, with no await between the client's hand and ours."""
        consumer = self._ensure_consumer()
        fetched = await consumer.getmany(
            *tps, timeout_ms=int(timeout * 1000), max_records=self.source.chunk_records
        )
        for tp, records in fetched.items():
            lane, position = self.consumer.lanes.get(TP(*tp)), self.position(tp)
            if lane and position is not None:
                lane.fetch(records, position, self.source.chunk_bytes)

    def _lanes(self) -> list[tuple[TP, PartitionBuffer]]:
        return list(self.consumer.lanes.items())

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Faust's own crashes the app; here what was not committed is tried again later."""
        wanted = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        try:
            await asyncio.wait_for(
                self._ensure_consumer().commit(wanted), self.source.connection.timeout
            )
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self.log.warning("commit of %s failed: %r", self.source.group, error)
            return False
        return True

    def end(self, tp: TP) -> int | None:
        """The offset after the last committed record, as far as the client knows.

        Of a partition that was just revoked it knows nothing, and asserts that one does not ask.
        """
        consumer, partition = self._consumer, TopicPartition(*tp)
        with suppress(IllegalStateError, AttributeError, AssertionError):
            stable = consumer.last_stable_offset(partition)
            known = stable if stable is not None and stable >= 0 else consumer.highwater(partition)
            return int(known) if known is not None else None
        return None

    def position(self, tp: TP) -> int | None:
        """Where the next fetch begins: past records without a value for us, too.

        Of a partition that was just assigned the client does not know it yet, and asserts as above.
        """
        with suppress(IllegalStateError, AttributeError, AssertionError):
            assignment = self._consumer._subscription.subscription.assignment
            position = assignment.state_value(TopicPartition(*tp)).position
            return int(position) if position is not None else None
        return None


def _taken(running: asyncio.Future[Any]) -> None:
    if not running.cancelled():
        running.exception()


def _handed_out(lanes: Iterable[PartitionBuffer]) -> list[Chunk]:
    return [chunk for lane in lanes for chunk in lane.hand_out()]
