"""The snapshot store in memory."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from eventfleet.stores.contracts import Snapshot
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield

Kept = dict[tuple[int, int], Snapshot]  # by state version and version


class MemorySnapshots:
    """Keeps the last `kept` snapshots of each aggregate."""

    def __init__(self, kept: int = 3, checkpoint: YieldPoint = no_yield) -> None:
        self._kept, self._checkpoint = kept, checkpoint
        self._of: defaultdict[str, Kept] = defaultdict(dict)

    async def prepare(self) -> None:
        await self._checkpoint()

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            await self._checkpoint()
            kept = self._of[snapshot.aggregate_id]
            kept.setdefault((snapshot.state_version, snapshot.version), snapshot)
            for key in sorted(kept, key=_age)[: -self._kept]:
                del kept[key]
        await self._checkpoint()

    async def latest(
        self, aggregate_ids: Collection[str], state_version: int
    ) -> dict[str, Snapshot]:
        await self._checkpoint()
        found = ((key, self._newest(key, state_version, None)) for key in aggregate_ids)
        return {key: snapshot for key, snapshot in found if snapshot}

    async def at(self, aggregate_id: str, version: int, state_version: int) -> Snapshot | None:
        await self._checkpoint()
        return self._newest(aggregate_id, state_version, version)

    async def count(self) -> int:
        await self._checkpoint()
        return len(self._of)

    def _newest(self, key: str, state_version: int, upto: int | None) -> Snapshot | None:
        kept = self._of.get(key, {})
        versions = [v for s, v in kept if s == state_version and (upto is None or v <= upto)]
        return kept[state_version, max(versions)] if versions else None


def _age(key: tuple[int, int]) -> tuple[int, int]:
    state_version, version = key
    return version, state_version
