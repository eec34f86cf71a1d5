"""The contract between a role and the worker that runs it, and the faults that stop a role."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from eventfleet.stores.errors import DoubtfulOffset
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord


@dataclass
class ChunkReport:
    """The counts of one chunk, in events (or records, or commands); reports can be added.

    `reasons` counts the rejected commands by reason, `rules` the snapshots by the rule that made
    them due.
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
    parked: int = 0
    redriven: int = 0
    discarded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: "ChunkReport") -> "ChunkReport":
        for name, value in vars(other).items():
            if value:
                setattr(self, name, getattr(self, name) + value)
        return self


NOTHING = ChunkReport()
"""The report of a call that has done nothing that counts."""


class PartitionFault(EventfleetError):
    """A fault that stops a role at one partition, with the offset unmoved, and nothing else.

    `details` are further lines for the log, `fields` what its line is about.
    """

    details = ""
    fields: Mapping[str, Any] = MappingProxyType({})


class UndeclaredEvent(EventfleetError):
    """An accepted event that the running declaration of its domain does not read."""

    def __init__(self, event: EventRecord, reason: str) -> None:
        super().__init__(
            "it was accepted, but the domain as declared in this process does not read "
            f"{event.type} of schema version {event.schema_version} ({reason}): roll out append "
            "first; it tries again by itself once it runs the version that made the event"
        )


class UnusableOffset(PartitionFault, DoubtfulOffset):
    """The offset of a group is lost, or names a record that the log does not have."""


class RecordsRemoved(UnusableOffset):
    """The log no longer keeps the records behind a group's offset."""


class Role(Protocol):
    """A role over one source partition of one domain; its calls never overlap.

    After Fenced the worker gives the partition up until it is reassigned, or is still assigned a
    session later. After ServerUnavailable it calls `open` again and goes on from there, and so it
    does, for a while, after a DoubtfulOffset. After a PartitionFault or TopicRefused the partition
    stands still until it is reassigned. Any other error, Misconfigured among them, stops the
    process.
    """

    async def open(self) -> int:
        """Become the partition's owner, and return the offset to read from."""

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        """Process some records: make all that follows of them durable, and then move the offset.

        `next_offset` is the offset after the last record (control records may lie before it).
        """

    async def tick(self) -> ChunkReport:
        """Do what is due without a record; called between chunks, about once a second, at rest
        every few seconds."""

    @property
    def at_rest(self) -> bool:
        """True when nothing is under way that goes on with the next tick."""

    async def close(self) -> None:
        """Let the partition go. Never raises."""
