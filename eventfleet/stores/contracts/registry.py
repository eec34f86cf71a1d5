"""Contract of the registry: the facts that an event store holds about itself."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from eventfleet.model.event_shapes import EventShape
from eventfleet.topics.event import Position

UNKNOWN_INCARNATION = "unknown"
"""Registered as the first incarnation of a domain that may have had another one before."""


class RepairKind(StrEnum):
    """A rewind repeats what append did; a restore copies from `<domain>.stored` what it did."""

    REWIND = "rewind"
    RESTORE = "restore"


class OffsetRange(NamedTuple):
    """The records of a partition of `<domain>.events` with first <= offset < end."""

    partition: int
    first: int
    end: int


class Repair(NamedTuple):
    """An operator's repair of a store that its consumer group did not fill, for one partition.

    `epoch`: the store's since the repair. A rewind voids what stands in `<domain>.stored` for these
    offsets with lower epochs.
    """

    kind: RepairKind
    epoch: int
    offsets: OffsetRange
    time: datetime

    def voids(self, position: Position) -> bool:
        """Return whether this repair voids a record of `<domain>.stored` with this position."""
        partition, first, end = self.offsets
        return (
            self.kind is RepairKind.REWIND
            and position.epoch < self.epoch
            and position.partition == partition
            and first <= position.offset < end
        )


class OffsetNote(NamedTuple):
    """Append's offset of a partition, as it was noted last: in the present epoch, or before."""

    epoch: int
    next_offset: int


class RegistryFacts(NamedTuple):
    """The facts of a registry that can't be read from the events; `begun`: role and partition."""

    epoch: int = 0
    partition_count: int | None = None
    event_shapes: tuple[EventShape, ...] = ()
    begun: tuple[tuple[str, int], ...] = ()
    repairs: tuple[Repair, ...] = ()


class StoreRegistry(Protocol):
    """The facts that one domain's event store holds about itself."""

    async def epoch(self) -> int:
        """Return the domain's epoch: 0 until it is raised."""

    async def incarnation(self) -> str:
        """Return the id of the store's life: another one in each epoch, in a store that was created
        anew, and in a copy of a file."""

    async def check_writable(self) -> None:
        """Write something durably that nobody reads; raises what a command's write would."""

    async def raise_epoch(self) -> int:
        """Raise the epoch, and return the new one; due after `<domain>.events` was recreated."""

    async def partition_count(self) -> int | None:
        """Return the registered number of the log's partitions in this epoch; None: there is
        none."""

    async def register_partition_count(self, count: int) -> int:
        """Register it where none is registered in this epoch; return the registered one."""

    async def partition_counts(self) -> set[int]:
        """Return all numbers that were registered, in this epoch and before."""

    async def event_shapes(self) -> list[EventShape]:
        """Return the recorded shapes of events, in the order in which they were recorded."""

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        """Record shapes in place of the recorded ones, durably; False where these are others."""

    async def declarations(self) -> Mapping[str, Sequence[EventShape]]:
        """Return, by role, what its worker declares that was the last one to start."""

    async def note_declaration(self, roles: Collection[str], shapes: Sequence[EventShape]) -> None:
        """Note what a worker of these roles declares that starts."""

    async def next_offset(self, partition: int) -> int:
        """Return the offset below which the store holds all that append took from a partition.

        That of the present epoch; 0 where append has noted none.
        """

    async def last_note(self, partition: int) -> OffsetNote | None:
        """Return the last noted offset of a partition, of whatever epoch; None: there is none."""

    async def next_offsets(self) -> dict[int, int]:
        """Return the noted offsets of all partitions: those of a rewind, also if it was cut off."""

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        """Note it, durably; a lower offset than the noted one changes nothing.

        Misconfigured: the store is in another epoch.
        """

    async def rewind(self, ranges: Collection[OffsetRange], time: datetime) -> int:
        """Set the noted offsets back to where the ranges begin; record it as a repair.

        Raises the epoch, and returns the new one; the other partitions keep their offsets.
        """

    async def record_restore(self, ranges: Collection[OffsetRange], time: datetime) -> None:
        """Note the end of each range as the next offset, and record it as a repair."""

    async def has_begun(self, role: str, partition: int) -> bool:
        """Return whether a role was noted to have begun on a partition, since `raise_epoch`."""

    async def note_begun(self, role: str, partition: int) -> None:
        """Note it, durably."""

    async def owner(self, role: str, partition: int) -> str:
        """Return the id of a role's noted owner of a partition; "" where there is none."""

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        """Note it, durably, in place of the one before, which is returned as by `owner`."""

    async def repairs(self) -> list[Repair]:
        """Return all repairs, the oldest first."""

    async def first_incarnation(self) -> str:
        """Return the registered id of the incarnation of Redis in which the domain began.

        Empty until one is registered; UNKNOWN_INCARNATION from a raised epoch, a rewind or a
        restore on.
        """

    async def register_first_incarnation(self, incarnation_id: str) -> str:
        """Register it where none is registered; return the registered one."""

    async def facts(self) -> RegistryFacts:
        """Return the facts of which the log keeps a copy, as they are at one moment."""

    async def recover(self, facts: RegistryFacts) -> None:
        """Add what is missing of facts that were read from the log, durably.

        The epoch never goes back. Repairs come in the order of their epochs. Of an earlier epoch
        than the store's, neither what has begun nor the number of partitions counts.
        """
