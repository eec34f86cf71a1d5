"""RegistryState: what an event store's registry holds, and the rules by which it changes."""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

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
from eventfleet.stores.registry_facts import merge_repairs, merge_shapes


class RegistryState(msgspec.Struct):
    """The state of one domain's registry; its methods are those of StoreRegistry.

    `partition_counts` are by epoch, `notes` by partition, `owners` by role and partition.
    """

    epoch: int = 0
    partition_counts: dict[int, int] = {}
    event_shapes: list[EventShape] = []
    declarations: dict[str, list[EventShape]] = {}
    notes: dict[int, OffsetNote] = {}
    begun: set[tuple[str, int]] = set()
    owners: dict[str, dict[int, str]] = {}
    repairs: list[Repair] = []
    first_incarnation: str = ""

    def raise_epoch(self) -> int:
        self.epoch += 1
        self.begun = set()
        self.first_incarnation = UNKNOWN_INCARNATION
        return self.epoch

    @property
    def partition_count(self) -> int | None:
        return self.partition_counts.get(self.epoch)

    def register_partition_count(self, count: int) -> int:
        return self.partition_counts.setdefault(self.epoch, count)

    def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        if self.event_shapes != [*recorded]:
            return False
        self.event_shapes = [*shapes]
        return True

    def note_declaration(self, roles: Collection[str], shapes: Sequence[EventShape]) -> None:
        self.declarations |= {role: [*shapes] for role in roles}

    @property
    def next_offsets(self) -> dict[int, int]:
        """The offsets that were noted in the present epoch."""
        return {p: note.next_offset for p, note in self.notes.items() if note.epoch == self.epoch}

    def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        if epoch != self.epoch:
            raise Misconfigured(f"the store is in epoch {self.epoch}, not in epoch {epoch}")
        noted = self.next_offsets.get(partition, 0)
        self.notes[partition] = OffsetNote(self.epoch, max(noted, next_offset))

    def rewind(self, ranges: Collection[OffsetRange], time: datetime) -> int:
        offsets = self.next_offsets | {each.partition: each.first for each in ranges}
        self.epoch += 1
        self.notes |= {p: OffsetNote(self.epoch, offset) for p, offset in offsets.items()}
        self._record(RepairKind.REWIND, ranges, time)
        return self.epoch

    def record_restore(self, ranges: Collection[OffsetRange], time: datetime) -> None:
        for each in ranges:
            self.note_next_offset(each.partition, self.epoch, each.end)
        self._record(RepairKind.RESTORE, ranges, time)

    def owner(self, role: str, partition: int) -> str:
        return self.owners.get(role, {}).get(partition, "")

    def note_owner(self, role: str, partition: int, owner: str) -> str:
        former = self.owner(role, partition)
        self.owners.setdefault(role, {})[partition] = owner
        return former

    def register_first_incarnation(self, incarnation_id: str) -> str:
        self.first_incarnation = self.first_incarnation or incarnation_id
        return self.first_incarnation

    @property
    def facts(self) -> RegistryFacts:
        return RegistryFacts(
            self.epoch,
            self.partition_count,
            tuple(self.event_shapes),
            tuple(sorted(self.begun)),
            tuple(self.repairs),
        )

    def recover(self, facts: RegistryFacts) -> None:
        if facts.epoch > self.epoch:
            self.begun = set()
        self.first_incarnation = UNKNOWN_INCARNATION
        self.epoch = max(self.epoch, facts.epoch)
        if facts.epoch == self.epoch:
            self.begun |= {*facts.begun}
            if facts.partition_count is not None:
                self.register_partition_count(facts.partition_count)
        self.event_shapes = merge_shapes(facts.event_shapes, self.event_shapes)
        self.repairs = merge_repairs(facts.repairs, self.repairs)

    def _record(self, kind: RepairKind, ranges: Collection[OffsetRange], time: datetime) -> None:
        self.first_incarnation = UNKNOWN_INCARNATION
        self.repairs += [Repair(kind, self.epoch, each, time) for each in ranges]
