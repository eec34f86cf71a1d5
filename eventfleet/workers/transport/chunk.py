"""Chunks, and the record of those of one partition that are under way."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from faust import Schema

from eventfleet.topics.record import LogRecord

UNDER_WAY = 2
VALUE = attrgetter("value")


class Chunk(NamedTuple):
    """Records of one partition, in offset order, as they were fetched in one session.

    A session lasts from one seek of the partition to the next. `start` is the `next_offset` of the
    chunk before it in the session, or the offset sought.
    """

    partition: int
    records: Sequence[LogRecord]
    start: int
    next_offset: int
    session: int


class PartitionBuffer:
    """One session of one partition: what was fetched, is under way, and is finished."""

    def __init__(self, partition: int, offset: int, session: int) -> None:
        self.partition = partition
        self.session = session
        self.fetched = offset
        self.finished = offset
        self._waiting: deque[Chunk] = deque()
        self._under_way: deque[int] = deque()

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < UNDER_WAY

    @property
    def idle(self) -> bool:
        return not self._under_way and not self._waiting

    def fetch(self, records: Sequence[LogRecord], position: int, most_bytes: int) -> None:
        """Keep what was fetched, cut into chunks; `position` is where the next fetch begins."""
        pieces = list(_pieces(records, most_bytes))
        for index, piece in enumerate(pieces):
            end = position if index == len(pieces) - 1 else piece[-1].offset + 1
            self._waiting.append(Chunk(self.partition, piece, self.fetched, end, self.session))
            self.fetched = end

    def hand_out(self) -> Iterator[Chunk]:
        """The chunks that there is room for."""
        while self._waiting and self.has_room:
            chunk = self._waiting.popleft()
            self._under_way.append(chunk.next_offset)
            yield chunk

    def finish(self, next_offset: int) -> None:
        """Everything before this offset is done with: there is room for more."""
        while self._under_way and self._under_way[0] <= next_offset:
            self.finished = self._under_way.popleft()

    def acked(self, next_offset: int) -> int | None:
        """How far this ack lets commit: the end of the oldest chunk under way, or nothing."""
        head = self._under_way[0] if self._under_way else None
        return head if head is not None and head <= next_offset else None


class ChunkSchema(Schema):  # type: ignore[misc]
    """Hands the chunk through as it is."""

    def compile(self, app: Any, **options: Any) -> Callable[..., Any]:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


def _pieces(records: Sequence[LogRecord], most_bytes: int) -> Iterator[Sequence[LogRecord]]:
    """Runs of records whose values have up to so many bytes each, of one record at least."""
    first = size = 0
    if sum(map(len, filter(None, map(VALUE, records)))) > most_bytes:
        for index, record in enumerate(records):
            more = len(record.value or b"")
            if size + more > most_bytes and index > first:
                yield records[first:index]
                first, size = index, 0
            size += more
    yield records[first:] if first else records
