"""HaltableRole: a role that stands still once its whole app, or its partition, has to."""

from collections.abc import Callable, Sequence

from eventfleet.roles.role import ChunkReport, PartitionFault, Role
from eventfleet.topics.record import LogRecord

FindFault = Callable[[int], PartitionFault | None]
"""Finds the fault for which a partition has to stand still, whatever its role does."""


class HaltableRole:
    """The role of one partition; each call raises the fault that is found, if there is one."""

    def __init__(self, role: Role, partition: int, find_fault: FindFault) -> None:
        self._role, self._partition, self._find_fault = role, partition, find_fault

    async def open(self) -> int:
        self._check()
        return await self._role.open()

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        self._check()
        return await self._role.process(records, next_offset)

    async def tick(self) -> ChunkReport:
        self._check()
        return await self._role.tick()

    @property
    def at_rest(self) -> bool:
        return self._role.at_rest

    async def close(self) -> None:
        await self._role.close()

    def _check(self) -> None:
        if fault := self._find_fault(self._partition):
            raise fault
