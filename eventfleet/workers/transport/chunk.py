"""Chunks of records, and the buffer between fetching and processing them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from faust import Schema

from eventfleet.topics.record import LogRecord

MAX_CHUNKS_IN_FLIGHT = 2
_value = attrgetter("value")


class Chunk(NamedTuple):
    """A run of one partition's records, in offset order, fetched in one session.

    A session lasts from one seek of the partition to the next. `start` is the `next_offset` of the
    chunk before it in the session, or the offset sought.
    """

    partition: int
    records: Sequence[LogRecord]
    start: int
    next_offset: int
    session: int


class PartitionBuffer:
    """The chunks of one session of one partition: fetched, in flight, finished.

    `fetched` and `finished` are the ends (offsets) of the last chunk fetched and of the last done.
    """

    def __init__(self, partition: int, offset: int, session: int) -> None:
        self.partition = partition
        self.session = session
        self.fetched = offset
        self.finished = offset
        self.is_interrupted = False  # no more of the session can be fetched
        self._waiting: deque[Chunk] = deque()
        self._in_flight: deque[tuple[int, int]] = deque()  # next offset, oldest timestamp

    @property
    def has_room(self) -> bool:
        """True when another chunk may be handed out."""
        return not self.is_interrupted and len(self._in_flight) < MAX_CHUNKS_IN_FLIGHT

    @property
    def is_idle(self) -> bool:
        """True when every fetched chunk is done."""
        return not self._in_flight and not self._waiting

    @property
    def oldest_timestamp(self) -> int | None:
        """The timestamp of the oldest record that is not done; None without one."""
        if self._in_flight:
            return self._in_flight[0][1]
        return self._waiting[0].records[0].timestamp if self._waiting else None

    def add(self, records: Sequence[LogRecord], position: int, max_bytes: int) -> None:
        """Cut fetched records into chunks; `position` is the offset of the next fetch."""
        pieces = list(_split(records, max_bytes))
        for index, piece in enumerate(pieces):
            end = position if index == len(pieces) - 1 else piece[-1].offset + 1
            self._waiting.append(Chunk(self.partition, piece, self.fetched, end, self.session))
            self.fetched = end

    def hand_out(self) -> Iterator[Chunk]:
        """Hand out the chunks that there is room for."""
        while self._waiting and self.has_room:
            chunk = self._waiting.popleft()
            self._in_flight.append((chunk.next_offset, chunk.records[0].timestamp))
            yield chunk

    def finish(self, next_offset: int) -> None:
        """Free the room of the chunks that end at or before this offset: they are done."""
        while self._in_flight and self._in_flight[0][0] <= next_offset:
            self.finished, _ = self._in_flight.popleft()

    def committable(self, next_offset: int) -> int | None:
        """The offset that an ack lets us commit: the end of the oldest chunk in flight."""
        head = self._in_flight[0][0] if self._in_flight else None
        return head if head is not None and head <= next_offset else None


class ChunkSchema(Schema):  # type: ignore[misc]
    """Passes a chunk on as it is: there is nothing to decode."""

    def compile(self, app: Any, **options: Any) -> Callable[..., Any]:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


def hand_out(buffers: Iterable[PartitionBuffer]) -> list[Chunk]:
    """Hand out the chunks that these buffers have room for."""
    return [chunk for buffer in buffers for chunk in buffer.hand_out()]


def _split(records: Sequence[LogRecord], max_bytes: int) -> Iterator[Sequence[LogRecord]]:
    """Split records into runs of at least one record, whose values have at most `max_bytes`."""
    first = size = 0
    if sum(map(len, filter(None, map(_value, records)))) > max_bytes:
        for index, record in enumerate(records):
            value_size = len(record.value or b"")
            if size + value_size > max_bytes and index > first:
                yield records[first:index]
                first, size = index, 0
            size += value_size
    yield records[first:] if first else records
