"""The outbox, in memory."""

import time
from collections.abc import Collection, Sequence

from eventfleet.stores.memory.copies import copy_event
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.event import EventKey, EventRecord


class MemoryOutbox:
    """Outbox in memory; `add` is for the store that it belongs to."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self._pending: dict[bool, dict[EventKey, EventRecord]] = {False: {}, True: {}}
        self._leases: dict[str, tuple[str, float]] = {}

    async def prepare(self) -> None:
        await self._yield_point()

    def add(self, events: Sequence[EventRecord], *, to_publish: bool) -> None:
        """Make events pending."""
        self._pending[to_publish].update((event.key, event) for event in events)

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        await self._yield_point()
        oldest = [copy_event(each) for each in [*self._pending[to_publish].values()][:limit]]
        return sorted(oldest, key=lambda event: (event.aggregate_id, event.version))

    async def settle(self, keys: Collection[EventKey]) -> None:
        await self._yield_point()
        for key in keys:
            for pending in self._pending.values():
                pending.pop(key, None)

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        await self._yield_point()
        holder, until = self._leases.get(name, (owner, 0.0))
        if holder != owner and until > time.monotonic():
            return False
        self._leases[name] = (owner, time.monotonic() + seconds)
        return True

    async def release_lease(self, name: str, owner: str) -> None:
        await self._yield_point()
        if self._leases.get(name, ("", 0.0))[0] == owner:
            del self._leases[name]
