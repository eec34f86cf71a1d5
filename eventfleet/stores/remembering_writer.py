"""RememberingWriter: knows what this process has committed, whatever a coordinator answers."""

from collections.abc import Sequence

from eventfleet.stores.contracts import PartitionWriter, Watermarks
from eventfleet.stores.errors import OffsetMovedBack
from eventfleet.topics.record import ProducerRecord


class RememberingWriter:
    """PartitionWriter with transactions whose offset never moves back.

    A commit that has succeeded is known to be done. So a lower offset is a wrong answer, or the
    work of an operator, who needs a group without members for it.
    """

    def __init__(self, writer: PartitionWriter) -> None:
        self._writer = writer
        self._known = 0

    async def open(self) -> int | None:
        """OffsetMovedBack: the offset is below one that was committed here."""
        offset = await self._writer.open()
        if offset is not None and offset < self._known:
            raise OffsetMovedBack(offset, self._known)
        self._known = offset or self._known
        return offset

    async def watermarks(self) -> Watermarks:
        return await self._writer.watermarks()

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        await self._writer.commit(records, next_offset, last)
        self._known = next_offset

    async def close(self) -> None:
        await self._writer.close()
