"""OwnedSession: the chunks of a partition that its owner has, between two openings of its role."""

import asyncio
import math
import time
from collections.abc import Sequence
from itertools import count

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.record import LogRecord
from eventfleet.workers.chunk_source import ChunkSource
from eventfleet.workers.transport.chunk import MAX_CHUNKS_IN_FLIGHT, Chunk

RESTING_SECONDS = 2.0
_numbers = count(1)


class OwnedSession:
    """The queue of one owner, in one session after another.

    `position` is the offset that is processed next; `tick_pause` the seconds between two ticks.
    """

    def __init__(self, partition: int, source: ChunkSource, tick_pause: float) -> None:
        self._partition, self._source = partition, source
        self.position, self.tick_pause = 0, tick_pause
        self._number: int | None = None
        self._last_tick = time.monotonic()
        self._queue = _make_queue()

    async def start(self, position: int) -> bool:
        """Start a session from an offset; False: the partition is not assigned to us any more."""
        self.position, self._number, self._queue = position, next(_numbers), _make_queue()
        started = await self._source.start_session(self._partition, position, self._number)
        if started:  # a tick comes first: a discard may be what lets the first chunk through
            self._last_tick = -math.inf
        return started

    def end(self) -> None:
        self._number = None
        self._source.end_session(self._partition)

    def enqueue(self, chunk: Chunk) -> None:
        """Put a chunk in the queue, unless its session is over."""
        if chunk.session == self._number:
            self._queue.put_nowait(chunk)

    def interrupt(self, session: int, reason: str) -> None:
        """End the session after the chunks in the queue, unless it is over."""
        if session == self._number:
            self._queue.put_nowait(ServerUnavailable(reason))

    async def next_chunk(self) -> Chunk | None:
        """The next chunk; None when a tick is due first. ServerUnavailable: an interruption."""
        due = self._last_tick + self.tick_pause
        if self.tick_pause >= RESTING_SECONDS and math.isfinite(due):
            due = round(due)  # the owners of an idle process wake it up together
        left = due - time.monotonic()
        if left <= 0:
            return None
        try:
            async with asyncio.timeout(left):
                item = await self._queue.get()
        except TimeoutError:
            return None
        if isinstance(item, ServerUnavailable):
            raise item
        return item

    def unread(self, chunk: Chunk) -> Sequence[LogRecord]:
        """The records of a chunk from the position on. ServerUnavailable: some are missing."""
        if chunk.start != self.position:
            raise ServerUnavailable(
                f"the records from offset {self.position} to {chunk.start} were not delivered"
            )
        records = chunk.records
        if records[0].offset < self.position:
            records = [record for record in records if record.offset >= self.position]
        return records

    def finish(self, next_offset: int) -> None:
        """Free the room of the chunk that ends here: it is done."""
        self.position = next_offset
        self._source.finish(self._partition, next_offset)

    def note_tick(self) -> None:
        """Have a chunk come next, however long the tick took."""
        self._last_tick = time.monotonic()


def _make_queue() -> "asyncio.Queue[Chunk | ServerUnavailable]":
    """Make the queue of a session: its chunks, and the interruption that ends it."""
    return asyncio.Queue(MAX_CHUNKS_IN_FLIGHT + 1)
