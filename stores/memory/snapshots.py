"""The snapshot store in memory."""

from collections.abc import Collection, Sequence

from stores.contracts import Snapshot
from stores.memory.checkpoint import Checkpoint, go_on

Kept = dict[tuple[int, int], Snapshot]  # by state version and version


class MemorySnapshots:
    """Keeps the last `kept` snapshots of each aggregate and state version."""

    def __init__(self, kept: int = 3, checkpoint: Checkpoint = go_on) -> None:
        self._kept, self._checkpoint = kept, checkpoint
        self._of: dict[str, Kept] = {}

    async def prepare(self) -> None:
        await self._checkpoint()

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        for shot in snapshots:
            await self._checkpoint()
            kept = self._of.setdefault(shot.aggregate_id, {})
            kept.setdefault((shot.state_version, shot.version), shot)
            same = sorted(key for key in kept if key[0] == shot.state_version)
            for key in same[: -self._kept]:
                del kept[key]

    async def latest(
        self, aggregate_ids: Collection[str], state_version: int
    ) -> dict[str, Snapshot]:
        await self._checkpoint()
        found = ((key, self._newest(key, state_version, None)) for key in aggregate_ids)
        return {key: shot for key, shot in found if shot}

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
