"""The take-over of a partition, the same for every role."""

from eventfleet.roles.role import UnusableOffset
from eventfleet.stores.contracts import PartitionWriter, StoreRegistry


async def take_over(writer: PartitionWriter, repair: str) -> int | None:
    """Fence earlier owners; return the committed offset (None: there is none).

    The order matters: were the offset read before the fence, the old owner could still commit past
    it. UnusableOffset when the log does not have the offset, with the `repair` to do.
    """
    offset = await writer.open()
    if offset is not None:
        await _check_offset(writer, offset, repair)
    return offset


class RoleStart:
    """The start of a role that begins at the oldest record, once only; append has its own.

    The first offset is committed before the registry notes that the role has begun, and the note
    comes before the first record. So a group without an offset that was noted before the take-over
    has lost it: were the role to begin anew, it would do all again.
    """

    def __init__(self, registry: StoreRegistry, domain: str, role: str, partition: int) -> None:
        self._registry, self._role, self._partition = registry, role, partition
        self._repair = (
            f"stop the workers of {role}, and set the offset: "
            f"eventfleet topics set-offset {domain} {role} earliest (or latest)"
        )

    async def take_over(self, writer: PartitionWriter) -> int:
        """Take the partition over, and return the offset to go on from, which is committed.

        UnusableOffset when the offset is lost, or the log does not have it.
        """
        begun = await self._registry.has_begun(self._role, self._partition)
        offset = await take_over(writer, self._repair)
        if offset is None:
            if begun:
                raise self._offset_lost()
            offset = (await writer.watermarks()).oldest
            await writer.commit([], offset)
        if not begun:
            await self._registry.note_begun(self._role, self._partition)
        return offset

    def _offset_lost(self) -> UnusableOffset:
        return UnusableOffset(
            "the group has lost its offset: it was deleted, it expired while no worker ran, or its "
            "prefix was changed. From the beginning all would be done again. Restore the offset or "
            f"the prefix, or {self._repair}"
        )


async def _check_offset(writer: PartitionWriter, offset: int, repair: str) -> None:
    oldest, end = await writer.watermarks()
    if offset < oldest:
        raise UnusableOffset(
            f"the group's offset is {offset}, but the log keeps its records from {oldest} to {end} "
            f"only: those before {oldest} were removed before this role had read them. Let logs be "
            f"kept longer, restore what is lost, and then {repair}"
        )
    if offset > end:
        raise UnusableOffset(
            f"the group's offset is {offset}, but the log holds records from {oldest} to {end}: it "
            "was truncated, made anew or restored from a copy, and what is written now would be "
            f"passed over. Find out what is lost, and then {repair}"
        )
