"""The snapshot store, in memory."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from eventfleet.stores.contracts import Snapshot
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield

Snapshots = dict[tuple[int, int], Snapshot]  # by state version and version


class MemorySnapshots:
    """SnapshotStore in memory. `kept`: how many snapshots of each aggregate are kept."""

    def __init__(self, kept: int = 3, yield_point: YieldPoint = no_yield) -> None:
        self._kept, self._yield_point = kept, yield_point
        self._snapshots: defaultdict[str, Snapshots] = defaultdict(dict)

    async def prepare(self) -> None:
        await self._yield_point()

    async def clear(self) -> None:
        await self._yield_point()
        self._snapshots.clear()

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            await self._yield_point()
            kept = self._snapshots[snapshot.aggregate_id]
            kept.setdefault((snapshot.state_version, snapshot.version), snapshot)
            for key in sorted(kept, key=_age)[: -self._kept]:
                del kept[key]
        await self._yield_point()

    async def latest(
        self, aggregate_ids: Collection[str], state_version: int
    ) -> dict[str, Snapshot]:
        await self._yield_point()
        found = ((key, self._newest(key, state_version, None)) for key in aggregate_ids)
        return {key: snapshot for key, snapshot in found if snapshot}

    async def at(self, aggregate_id: str, version: int, state_version: int) -> Snapshot | None:
        await self._yield_point()
        return self._newest(aggregate_id, state_version, version)

    async def count(self) -> int:
        await self._yield_point()
        return len(self._snapshots)

    def _newest(self, key: str, state_version: int, up_to: int | None) -> Snapshot | None:
        kept = self._snapshots.get(key, {})
        versions = [v for s, v in kept if s == state_version and (up_to is None or v <= up_to)]
        return kept[state_version, max(versions)] if versions else None


def _age(key: tuple[int, int]) -> tuple[int, int]:
    state_version, version = key
    return version, state_version
