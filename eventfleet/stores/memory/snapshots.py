"""The snapshot store, in memory."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from eventfleet.model.shapes import StateShape
from eventfleet.model.value_copy import copy_value
from eventfleet.stores.contracts import ShapeCount, Snapshot
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.snapshot_retention import SnapshotKey, find_excess, key_of


class MemorySnapshots:
    """SnapshotStore in memory. `kept`: how many snapshots of each aggregate and shape are kept."""

    def __init__(self, kept: int = 3, yield_point: YieldPoint = no_yield) -> None:
        self._kept, self._yield_point = kept, yield_point
        self._snapshots: defaultdict[str, dict[SnapshotKey, Snapshot]] = defaultdict(dict)

    async def prepare(self) -> None:
        await self._yield_point()

    async def clear(self) -> None:
        await self._yield_point()
        self._snapshots.clear()

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            await self._yield_point()
            kept = self._snapshots[snapshot.aggregate_id]
            kept.setdefault(key_of(snapshot), _copied(snapshot))
            saved = {snapshot.aggregate_id: snapshot.shape}
            for key in find_excess(kept, saved, self._kept):
                del kept[key]
        await self._yield_point()

    async def latest(
        self, aggregate_ids: Collection[str], shape: StateShape
    ) -> dict[str, Snapshot]:
        await self._yield_point()
        found = ((key, self._newest(key, shape, None)) for key in aggregate_ids)
        return {key: snapshot for key, snapshot in found if snapshot}

    async def at(self, aggregate_id: str, version: int, shape: StateShape) -> Snapshot | None:
        await self._yield_point()
        return self._newest(aggregate_id, shape, version)

    async def count(self) -> int:
        await self._yield_point()
        return len(self._snapshots)

    async def shapes(self) -> list[ShapeCount]:
        await self._yield_point()
        keys = [key for kept in self._snapshots.values() for key in kept]
        counts = Counter(key.shape for key in keys)
        first = {key.shape: key.aggregate_id for key in sorted(keys, reverse=True)}
        return [ShapeCount(shape, counts[shape], first[shape]) for shape in sorted(counts)]

    def _newest(self, aggregate_id: str, shape: StateShape, up_to: int | None) -> Snapshot | None:
        kept = self._snapshots.get(aggregate_id, {})
        fitting = [key for key in kept if key.shape == shape]
        versions = [key.version for key in fitting if up_to is None or key.version <= up_to]
        if not versions:
            return None
        return _copied(kept[SnapshotKey(aggregate_id, shape, max(versions))])


def _copied(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, state=copy_value(snapshot.state))
