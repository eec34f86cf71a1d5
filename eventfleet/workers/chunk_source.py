"""ChunkSource: where the owners of partitions get their chunks."""

from typing import Protocol


class ChunkSource(Protocol):
    """Delivers the chunks of each partition, in one session after another."""

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        """Deliver from this offset on. False: the partition is not assigned to us any more."""

    def end_session(self, partition: int) -> None:
        """Deliver no more chunks of the partition's session."""

    def finish(self, partition: int, next_offset: int) -> None:
        """Free the room of the chunk that ends here: it is done."""

    async def ack(self, partition: int, next_offset: int) -> None:
        """Commit the chunk in hand; before a session, commit this offset as it is."""

    def lag(self, partition: int, done: int | None = None) -> int:
        """The number of offsets that wait, from `done` on or else after the last chunk."""

    def oldest_timestamp(self, partition: int) -> int | None:
        """The milliseconds since 1970 of the oldest record at hand; None when none is."""
