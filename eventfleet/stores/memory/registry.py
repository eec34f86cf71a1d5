"""An event store's registry, in memory."""

from collections.abc import Collection, Sequence
from datetime import datetime

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import (
    UNKNOWN_INCARNATION,
    OffsetNote,
    OffsetRange,
    RegistryFacts,
    Repair,
    RepairKind,
)
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.registry_facts import merge_repairs, merge_shapes


class MemoryRegistry:
    """StoreRegistry in memory."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self._epoch = 0
        self._partition_counts: dict[int, int] = {}  # by epoch
        self._event_shapes: list[EventShape] = []
        self._declarations: dict[str, list[EventShape]] = {}
        self._notes: dict[int, OffsetNote] = {}
        self._begun: set[tuple[str, int]] = set()
        self._owners: dict[tuple[str, int], str] = {}
        self._repairs: list[Repair] = []
        self._first_incarnation = ""

    async def epoch(self) -> int:
        await self._yield_point()
        return self._epoch

    async def check_writable(self) -> None:
        await self._yield_point()

    async def raise_epoch(self) -> int:
        await self._yield_point()
        self._epoch += 1
        self._begun.clear()
        self._first_incarnation = UNKNOWN_INCARNATION
        return self._epoch

    async def partition_count(self) -> int | None:
        await self._yield_point()
        return self._partition_counts.get(self._epoch)

    async def register_partition_count(self, count: int) -> int:
        await self._yield_point()
        return self._partition_counts.setdefault(self._epoch, count)

    async def partition_counts(self) -> set[int]:
        await self._yield_point()
        return {*self._partition_counts.values()}

    async def event_shapes(self) -> list[EventShape]:
        await self._yield_point()
        return list(self._event_shapes)

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        await self._yield_point()
        if self._event_shapes != [*recorded]:
            return False
        self._event_shapes = [*shapes]
        await self._yield_point()
        return True

    async def declarations(self) -> dict[str, list[EventShape]]:
        await self._yield_point()
        return dict(self._declarations)

    async def note_declaration(self, roles: Collection[str], shapes: Sequence[EventShape]) -> None:
        await self._yield_point()
        self._declarations |= {role: [*shapes] for role in roles}

    async def next_offset(self, partition: int) -> int:
        await self._yield_point()
        return self._next_offsets().get(partition, 0)

    async def next_offsets(self) -> dict[int, int]:
        await self._yield_point()
        return self._next_offsets()

    async def last_note(self, partition: int) -> OffsetNote | None:
        await self._yield_point()
        return self._notes.get(partition)

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        await self._yield_point()
        if epoch != self._epoch:
            raise Misconfigured(f"the store is in epoch {self._epoch}, not in epoch {epoch}")
        self._note(partition, next_offset)
        await self._yield_point()

    async def rewind(self, ranges: Collection[OffsetRange], time: datetime) -> int:
        await self._yield_point()
        offsets = self._next_offsets() | {each.partition: each.first for each in ranges}
        self._epoch += 1
        self._notes |= {p: OffsetNote(self._epoch, offset) for p, offset in offsets.items()}
        self._record(RepairKind.REWIND, ranges, time)
        return self._epoch

    async def record_restore(self, ranges: Collection[OffsetRange], time: datetime) -> None:
        await self._yield_point()
        for each in ranges:
            self._note(each.partition, each.end)
        self._record(RepairKind.RESTORE, ranges, time)

    async def has_begun(self, role: str, partition: int) -> bool:
        await self._yield_point()
        return (role, partition) in self._begun

    async def note_begun(self, role: str, partition: int) -> None:
        await self._yield_point()
        self._begun.add((role, partition))
        await self._yield_point()

    async def owner(self, role: str, partition: int) -> str:
        await self._yield_point()
        return self._owners.get((role, partition), "")

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        await self._yield_point()
        former = self._owners.get((role, partition), "")
        self._owners[role, partition] = owner
        await self._yield_point()
        return former

    async def repairs(self) -> list[Repair]:
        await self._yield_point()
        return list(self._repairs)

    async def first_incarnation(self) -> str:
        await self._yield_point()
        return self._first_incarnation

    async def register_first_incarnation(self, incarnation_id: str) -> str:
        await self._yield_point()
        self._first_incarnation = self._first_incarnation or incarnation_id
        await self._yield_point()
        return self._first_incarnation

    async def facts(self) -> RegistryFacts:
        await self._yield_point()
        count = self._partition_counts.get(self._epoch)
        begun = tuple(sorted(self._begun))
        shapes, repairs = tuple(self._event_shapes), tuple(self._repairs)
        return RegistryFacts(self._epoch, count, shapes, begun, repairs)

    async def recover(self, facts: RegistryFacts) -> None:
        await self._yield_point()
        if facts.epoch > self._epoch:
            self._begun.clear()
        self._first_incarnation = UNKNOWN_INCARNATION
        self._epoch = max(self._epoch, facts.epoch)
        if facts.epoch == self._epoch:
            self._begun |= {*facts.begun}
            if facts.partition_count is not None:
                self._partition_counts.setdefault(self._epoch, facts.partition_count)
        self._event_shapes = merge_shapes(facts.event_shapes, self._event_shapes)
        self._repairs = merge_repairs(facts.repairs, self._repairs)

    def _next_offsets(self) -> dict[int, int]:
        """Return the offsets that were noted in the present epoch."""
        notes = self._notes.items()
        return {p: note.next_offset for p, note in notes if note.epoch == self._epoch}

    def _note(self, partition: int, next_offset: int) -> None:
        noted = self._next_offsets().get(partition, 0)
        self._notes[partition] = OffsetNote(self._epoch, max(noted, next_offset))

    def _record(self, kind: RepairKind, ranges: Collection[OffsetRange], time: datetime) -> None:
        self._first_incarnation = UNKNOWN_INCARNATION
        self._repairs += [Repair(kind, self._epoch, each, time) for each in ranges]
