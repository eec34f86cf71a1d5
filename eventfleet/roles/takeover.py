"""The take-over of a partition, the same for every role."""

from eventfleet.roles.offset_faults import lost, moved_back, outside_log, set_offset_hint
from eventfleet.roles.role import RecordsRemoved, UnusableOffset
from eventfleet.stores.contracts import PartitionWriter, StoreRegistry
from eventfleet.stores.errors import OffsetMovedBack, ServerUnavailable


async def take_over(writer: PartitionWriter, repair: str) -> int | None:
    """Fence earlier owners; return the committed offset (None: there is none).

    The order matters: were the offset read before the fence, the old owner could still commit past
    it. UnusableOffset, with the `repair` to do, when the log does not have the offset, or it is
    below one that this process has committed.
    """
    try:
        offset = await writer.open()
    except OffsetMovedBack as error:
        raise UnusableOffset(moved_back(error.offset, error.known, repair)) from None
    if offset is not None:
        await _check_offset(writer, offset, repair)
    return offset


class RoleStart:
    """The start of a role that begins at the oldest record, once only; append has its own.

    The first offset is committed before the registry notes that the role has begun, and the note
    comes before the first record. So a group without an offset that was noted before the take-over
    has lost it: were the role to begin anew, it would do all again. A group whose offset is past
    the oldest record was noted, so it goes on while the registry is away.
    """

    def __init__(self, registry: StoreRegistry, domain: str, role: str, partition: int) -> None:
        self._registry, self._role, self._partition = registry, role, partition
        self._repair = set_offset_hint(domain, role)

    async def take_over(self, writer: PartitionWriter) -> int:
        """Take the partition over, and return the offset to go on from, which is committed.

        UnusableOffset when the offset is lost, or the log does not have it.
        """
        try:
            begun = await self._registry.has_begun(self._role, self._partition)
        except ServerUnavailable as error:
            return await self._take_over_without_registry(writer, error)
        offset = await take_over(writer, self._repair)
        if offset is None:
            if begun:
                raise UnusableOffset(lost(self._repair))
            offset = (await writer.watermarks()).oldest
            await writer.commit([], offset)
        if not begun:
            await self._registry.note_begun(self._role, self._partition)
        return offset

    async def _take_over_without_registry(
        self, writer: PartitionWriter, error: ServerUnavailable
    ) -> int:
        offset = await take_over(writer, self._repair)
        if offset is None or offset <= (await writer.watermarks()).oldest:
            raise error
        return offset


async def _check_offset(writer: PartitionWriter, offset: int, repair: str) -> None:
    marks = await writer.watermarks()
    if fault := outside_log(offset, marks, repair):
        raise RecordsRemoved(fault) if offset < marks.oldest else UnusableOffset(fault)
