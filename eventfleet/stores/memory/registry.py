"""An event store's registry, in memory."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import uuid4

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import OffsetNote, OffsetRange, RegistryFacts, Repair
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.registry_state import RegistryState


class MemoryRegistry:
    """StoreRegistry in memory."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point, self._state = yield_point, RegistryState()
        self._id = uuid4().hex

    async def epoch(self) -> int:
        await self._yield_point()
        return self._state.epoch

    async def incarnation(self) -> str:
        await self._yield_point()
        return f"{self._id}.{self._state.epoch}"

    async def check_writable(self) -> None:
        await self._yield_point()

    async def raise_epoch(self) -> int:
        await self._yield_point()
        return self._state.raise_epoch()

    async def partition_count(self) -> int | None:
        await self._yield_point()
        return self._state.partition_count

    async def register_partition_count(self, count: int) -> int:
        await self._yield_point()
        return self._state.register_partition_count(count)

    async def partition_counts(self) -> set[int]:
        await self._yield_point()
        return {*self._state.partition_counts.values()}

    async def event_shapes(self) -> list[EventShape]:
        await self._yield_point()
        return list(self._state.event_shapes)

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        await self._yield_point()
        replaced = self._state.replace_event_shapes(recorded, shapes)
        if replaced:
            await self._yield_point()
        return replaced

    async def declarations(self) -> dict[str, list[EventShape]]:
        await self._yield_point()
        return dict(self._state.declarations)

    async def note_declaration(self, roles: Collection[str], shapes: Sequence[EventShape]) -> None:
        await self._yield_point()
        self._state.note_declaration(roles, shapes)

    async def next_offset(self, partition: int) -> int:
        await self._yield_point()
        return self._state.next_offsets.get(partition, 0)

    async def next_offsets(self) -> dict[int, int]:
        await self._yield_point()
        return self._state.next_offsets

    async def last_note(self, partition: int) -> OffsetNote | None:
        await self._yield_point()
        return self._state.notes.get(partition)

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        await self._yield_point()
        self._state.note_next_offset(partition, epoch, next_offset)
        await self._yield_point()

    async def rewind(self, ranges: Collection[OffsetRange], time: datetime) -> int:
        await self._yield_point()
        return self._state.rewind(ranges, time)

    async def record_restore(self, ranges: Collection[OffsetRange], time: datetime) -> None:
        await self._yield_point()
        self._state.record_restore(ranges, time)

    async def has_begun(self, role: str, partition: int) -> bool:
        await self._yield_point()
        return (role, partition) in self._state.begun

    async def note_begun(self, role: str, partition: int) -> None:
        await self._yield_point()
        self._state.begun.add((role, partition))
        await self._yield_point()

    async def owner(self, role: str, partition: int) -> str:
        await self._yield_point()
        return self._state.owner(role, partition)

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        await self._yield_point()
        former = self._state.note_owner(role, partition, owner)
        await self._yield_point()
        return former

    async def repairs(self) -> list[Repair]:
        await self._yield_point()
        return list(self._state.repairs)

    async def first_incarnation(self) -> str:
        await self._yield_point()
        return self._state.first_incarnation

    async def register_first_incarnation(self, incarnation_id: str) -> str:
        await self._yield_point()
        registered = self._state.register_first_incarnation(incarnation_id)
        await self._yield_point()
        return registered

    async def facts(self) -> RegistryFacts:
        await self._yield_point()
        return self._state.facts

    async def recover(self, facts: RegistryFacts) -> None:
        await self._yield_point()
        self._state.recover(facts)
