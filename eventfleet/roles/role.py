"""The contract between a role and the worker that runs it, and the faults that stop a role."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import FoldableEvent
from eventfleet.topics.record import LogRecord


@dataclass
class ChunkReport:
    """The counts of one chunk, in events (or records, or commands); reports can be added.

    `reasons` counts the rejected commands by reason.
    """

    stored: int = 0
    repeated: int = 0
    dead_letters: int = 0
    superseded: int = 0
    emitted: int = 0
    snapshots: int = 0
    too_large: int = 0
    nudged: int = 0
    accepted: int = 0
    rejected: int = 0
    conflicts: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: "ChunkReport") -> "ChunkReport":
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self


class PoisonEvent(EventfleetError):
    """A domain's evolve, upcaster, rule or route raised: the role stops, the offset stays."""

    def __init__(
        self, role: str, domain: str, event: FoldableEvent, at: int | str | None, cause: Exception
    ) -> None:
        """`at`: the offset of the event's record, or the position of the event in the store."""
        place = f"{'offset' if isinstance(at, int) else 'position'} {at}"
        where = f"{domain} {event.aggregate_id!r} version {event.version} at {place}"
        super().__init__(f"{role} can't go on: {where}: {type(cause).__name__}: {cause}")


class Role(Protocol):
    """A role over one source partition of one domain; its calls never overlap.

    After Fenced the worker gives the partition up until it is reassigned, or is still assigned a
    session later. After ServerUnavailable it calls `open` again and goes on from there. Any other
    error, PoisonEvent and Misconfigured among them, stops the process.
    """

    async def open(self) -> int:
        """Become the partition's owner, and return the offset to read from."""

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        """Process some records: make all that follows of them durable, and then move the offset.

        `next_offset` is the offset after the last record (control records may lie before it).
        """

    async def tick(self) -> ChunkReport:
        """Do what is due without a record; called between chunks, about once a second."""

    async def close(self) -> None:
        """Let the partition go. Never raises."""
