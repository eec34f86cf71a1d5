"""Faust's consumer, yielding one message for a chunk of records instead of one for each."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from eventfleet.workers.transport.chunk import Chunk, PartitionBuffer
from eventfleet.workers.transport.consumer_thread import ConsumerThread


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Yields chunks of those partitions that `app.owners` has opened.

    Only the session of a chunk says whether it is still wanted: whatever drops one on its way, a
    new session follows. Offsets are committed as far as `acked` was called, and never else.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lanes: dict[TP, PartitionBuffer] = {}
        self.acks: dict[TP, int] = {}
        self.joined = False

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # What owners ask

    async def start_at(self, partition: int, offset: int, session: int) -> bool:
        """Begin a session of the partition here; False when it is not ours any more."""
        return bool(await self._thread.start_at(self._tp(partition), offset, session))

    def leave(self, partition: int) -> None:
        """End the partition's session: nothing more of it is fetched."""
        self.lanes.pop(self._tp(partition), None)

    def finished(self, partition: int, next_offset: int) -> None:
        """A chunk is done with, be it committed elsewhere or acked here."""
        if lane := self.lanes.get(self._tp(partition)):
            lane.finish(next_offset)
            self._thread.room()

    async def acked(self, partition: int, next_offset: int) -> None:
        """Commit the chunk in hand, or at the next turn of Faust's own commits.

        Before a session there is no chunk: a role that is being opened may commit where it begins.
        """
        tp = self._tp(partition)
        lane = self.lanes.get(tp)
        end = lane.acked(next_offset) if lane else next_offset
        if end is not None:
            self.acks[tp] = end
            await self.commit()

    def lag(self, partition: int) -> int:
        """How many offsets wait; 0 while that is not known."""
        tp = self._tp(partition)
        end, lane = self._thread.end(tp), self.lanes.get(tp)
        done = lane.finished if lane and not lane.idle else self._thread.position(tp)
        return max(0, end - done) if end is not None and done is not None else 0

    # What the app asks

    @property
    def alive(self) -> bool:
        """Whether the thread that talks to Kafka runs."""
        thread = self._thread._thread
        return thread is not None and thread.is_alive()

    def partitions(self) -> set[int]:
        """Those assigned to us."""
        return {tp.partition for tp in self.assignment()}

    async def retire(self) -> None:
        """Let the chunks in hand be finished, commit what was acked, take no more."""
        self.joined = False
        await self.app.owners.release()
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()
        self.lanes.clear()
        self.acks.clear()

    def _tp(self, partition: int) -> TP:
        return TP(self.app.source.topic, partition)

    # What Faust asks

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.retire()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.joined = True
        self.app.meter.assigned(len(assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Where to begin is known to the roles alone: each owner seeks when its role is open."""
        if self.joined:
            self.app.owners.assign(self, self.partitions())

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        for chunk in await self._thread.chunks(timeout):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)
            tp = self._tp(chunk.partition)
            lane = self.lanes.get(tp)
            if lane and lane.session == chunk.session:
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

    async def verify_all_partitions_active(self) -> None:
        """Liveness is told by the owners' progress."""
