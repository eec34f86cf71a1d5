"""OwnerProgress: how far one owner is, and how old what waits is, for metrics and probes."""

import time

from eventfleet.workers.chunk_source import ChunkSource
from eventfleet.workers.transport.chunk import Chunk


class OwnerProgress:
    """The progress of one owner. `made_at`: when a chunk was finished or none waited, on the
    steady clock; `stopped_position`: the offset at which a fault has stopped the role."""

    def __init__(self, partition: int, source: ChunkSource) -> None:
        self._partition, self._source = partition, source
        self.made_at = time.monotonic()
        self.stopped_position: int | None = None
        self.has_unfinished = False  # a chunk was begun and has failed, or is in hand
        self._unfinished_since = 0  # the timestamp of its first record, in milliseconds

    def begin(self, chunk: Chunk) -> float:
        """Note that a chunk is begun; return when."""
        self.has_unfinished = True
        self._unfinished_since = chunk.records[0].timestamp
        return time.monotonic()

    def finish(self) -> None:
        """Note that the chunk in hand is finished."""
        self.has_unfinished = False
        self.made_at = time.monotonic()

    def note_tick(self) -> None:
        if self.lag() == 0:
            self.made_at = time.monotonic()

    def age(self) -> float:
        """Seconds since a chunk was finished or none waited."""
        return time.monotonic() - self.made_at

    def lag(self) -> int:
        """The number of offsets that wait."""
        return self._source.lag(self._partition, self.stopped_position)

    def lag_seconds(self) -> float:
        """The age of the oldest record that is known to wait; 0 when none waits.

        Of records that wait in the log alone, the time since anything was done stands for it.
        """
        oldest = self._oldest_timestamp()
        if not oldest:
            return self.age() if self.lag() else 0.0
        return max(0.0, time.time() - oldest / 1000)

    def _oldest_timestamp(self) -> int | None:
        if self.has_unfinished:
            return self._unfinished_since
        return self._source.oldest_timestamp(self._partition)
