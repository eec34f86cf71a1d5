"""The owners of an app's assigned partitions."""

import asyncio
from collections.abc import Iterable, Iterator

from eventfleet.workers.chunk_source import ChunkSource
from eventfleet.workers.metrics import Meter
from eventfleet.workers.owner import (
    Fail,
    Owner,
    OwnerState,
    RoleFactory,
)
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.transport.chunk import Chunk


class Owners:
    """The owners of one app, by partition."""

    def __init__(
        self, make_role: RoleFactory, meter: Meter, timeouts: OwnerTimeouts, fail: Fail
    ) -> None:
        self._make_role, self._meter = make_role, meter
        self.timeouts, self._fail = timeouts, fail
        self._owners: dict[int, Owner] = {}
        self._stopped_at: dict[int, float] = {}  # by a fault, in an earlier assignment

    def __iter__(self) -> Iterator[Owner]:
        return iter(list(self._owners.values()))

    def assign(self, source: ChunkSource, partitions: Iterable[int]) -> None:
        """Give each partition that has no owner yet a new one."""
        for partition in sorted(set(partitions) - set(self._owners)):
            stopped_at = self._stopped_at.pop(partition, None)
            owner = Owner(
                partition, self._make_role, source, self._meter, self.timeouts, stopped_at
            )
            self._owners[partition] = owner
            owner.start(self._fail)

    def all_open(self, partitions: Iterable[int]) -> bool:
        """Check that each of these partitions has an owner whose role is open."""
        owners = [self._owners.get(partition) for partition in partitions]
        return all(owner is not None and owner.state is OwnerState.OPEN for owner in owners)

    def dispatch(self, chunk: Chunk) -> None:
        """Pass a chunk to the owner of its partition."""
        if owner := self._owners.get(chunk.partition):
            owner.session.enqueue(chunk)

    def interrupt(self, partition: int, session: int, reason: str) -> None:
        """Let the owner of a partition take it over again, if this session is the present one."""
        if owner := self._owners.get(partition):
            owner.session.interrupt(session, reason)

    async def release(self) -> None:
        """Close all owners; each finishes its chunk in hand."""
        owners = list(self._owners.values())
        await asyncio.gather(*(owner.close() for owner in owners))
        self._stopped_at = {each.partition: each.stopped_at for each in owners if each.fault}
        self._owners.clear()
