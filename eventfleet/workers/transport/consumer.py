"""Faust's consumer, with one message for each chunk of records instead of each record."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.workers.faust_log import FAUST_LOGGER
from eventfleet.workers.transport.chunk import Chunk, PartitionBuffer
from eventfleet.workers.transport.consumer_thread import ConsumerThread


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Yields the chunks of the partitions that `app.owners` has opened; their ChunkSource.

    A chunk is delivered if its session is the present one. Wherever a chunk may have been dropped,
    a new session begins. Offsets are committed as far as `ack` was called, and no further.
    """

    logger = FAUST_LOGGER

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffers: dict[TP, PartitionBuffer] = {}
        self.acks: dict[TP, int] = {}
        self._acked = asyncio.Event()
        self.joined = False

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # The ChunkSource of the owners

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        """Seek to this offset and begin a session. False: the partition is not assigned to us."""
        return bool(await self._thread.start_session(self._tp(partition), offset, session))

    def end_session(self, partition: int) -> None:
        """End the partition's session: no more of its records are fetched."""
        self.buffers.pop(self._tp(partition), None)

    def finish(self, partition: int, next_offset: int) -> None:
        """Free the room of a chunk that was committed by its role, or acked here."""
        if buffer := self.buffers.get(self._tp(partition)):
            buffer.finish(next_offset)
            self._thread.notify_room()

    async def ack(self, partition: int, next_offset: int) -> None:
        """Commit the chunk in hand; if that fails, Faust's next periodic commit includes it.

        Before a session there is no chunk: a role that is being opened may commit its first offset.
        ServerUnavailable when that fails: only a committed offset lets a role begin.
        """
        tp = self._tp(partition)
        buffer = self.buffers.get(tp)
        end = buffer.committable(next_offset) if buffer else next_offset
        if end is not None:
            self.acks[tp] = end
            self._acked.set()
            await self.commit()
        if buffer is None and self._should_commit(tp, next_offset - 1):
            # Faust awaits a commit that is in flight, instead of one that has this offset.
            await self.commit()
        if buffer is None and self._should_commit(tp, next_offset - 1):
            raise ServerUnavailable(f"offset {next_offset} of {tp} is not committed")

    def lag(self, partition: int, done: int | None = None) -> int:
        """The number of offsets that wait; 0 while it is unknown."""
        tp = self._tp(partition)
        end, buffer = self._thread.end(tp), self.buffers.get(tp)
        if done is None:
            done = buffer.finished if buffer and not buffer.is_idle else self._thread.position(tp)
        return max(0, end - done) if end is not None and done is not None else 0

    def oldest_timestamp(self, partition: int) -> int | None:
        """The timestamp of the oldest record that was fetched and is not done; None without one."""
        buffer = self.buffers.get(self._tp(partition))
        return buffer.oldest_timestamp if buffer else None

    # For the app

    @property
    def is_alive(self) -> bool:
        """True while the records are fetched."""
        return self._thread is not None and self._thread.is_alive

    @property
    def is_connected(self) -> bool:
        """True while Kafka is connected."""
        return self._thread is not None and self._thread.is_connected

    def partitions(self) -> set[int]:
        """The partitions assigned to us."""
        return {tp.partition for tp in self.assignment()}

    async def retire(self) -> None:
        """Finish the chunks in hand, commit the acked offsets, deliver no more."""
        self.joined = False
        await self.app.owners.release()
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()
        self.buffers.clear()
        self.acks.clear()
        if self._thread is not None:
            self._thread.notify_room()
            self._thread.notify_joining()

    def _tp(self, partition: int) -> TP:
        return TP(self.app.consumer_config.topic, partition)

    # Faust's hooks

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.retire()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.joined = True
        self.app.meter.assigned(len(assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Assign owners instead: only an open role knows its offset, and its owner seeks then."""
        if self.joined:
            self.app.owners.assign(self, self.partitions())

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        for chunk in await self._thread.chunks(timeout):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)
            tp = self._tp(chunk.partition)
            buffer = self.buffers.get(tp)
            if buffer and buffer.session == chunk.session:
                self._read_offset[tp] = chunk.records[-1].offset - 1
                yield tp, self._message(tp, chunk)

    def _message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        last = chunk.records[-1]
        return ConsumerMessage(
            *(tp.topic, tp.partition, last.offset, last.timestamp / 1000, 0, []),
            *(None, chunk, None, None, None, tp),
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self.acks) if topics is None or tp in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.acks.get(tp)

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        done = bool(await self._commit(offsets))
        if done:
            self._committed_offset.update(offsets)
        return done

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is None or offset > committed

    @driver.Consumer.task  # type: ignore[untyped-decorator]
    async def _commit_handler(self) -> None:
        """Commit what was acked and could not be committed."""
        while not self.should_stop:
            await self._acked.wait()
            await asyncio.sleep(self.commit_interval)
            self._acked.clear()
            await self.commit()
            if any(self._should_commit(tp, offset - 1) for tp, offset in self.acks.items()):
                self._acked.set()

    @driver.Consumer.task  # type: ignore[untyped-decorator]
    async def _commit_livelock_detector(self) -> None:
        """Look at nothing: liveness is the owners' progress."""
