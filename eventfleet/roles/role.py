"""The contract between a role and the worker that runs it, and the faults that stop a role."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from eventfleet.model.team_traceback import error_line, team_traceback
from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord, FoldableEvent
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


class PartitionFault(EventfleetError):
    """A fault that stops a role at one partition, with the offset unmoved, and nothing else.

    `details` are further lines for the log, `fields` what its line is about.
    """

    details = ""
    fields: Mapping[str, Any] = MappingProxyType({})


class PoisonEvent(PartitionFault):
    """A domain's evolve, upcaster, rule or route raised; `details` is its own traceback."""

    def __init__(
        self,
        role: str,
        domain: str,
        event: FoldableEvent,
        at: int | str | None,
        cause: Exception,
        correlation_id: str | None = None,
    ) -> None:
        """`at`: the offset of the event's record, or the position of the event in the store.

        `correlation_id`: the event's, where `event` does not have it.
        """
        self.fields = event_fields(event, correlation_id)
        place = f"{'offset' if isinstance(at, int) else 'position'} {at}"
        where = f"{domain} {event.aggregate_id!r} version {event.version}, event {event.id}"
        correlation_id = self.fields["correlation_id"]
        known = f" (correlation id {correlation_id})" if correlation_id else ""
        reason = error_line(cause)
        super().__init__(f"{role} can't go on: {where} at {place}{known}: {reason}")
        self.details = team_traceback(cause)


class UndeclaredEvent(EventfleetError):
    """An accepted event that the running declaration of its domain does not read."""

    def __init__(self, event: EventRecord, reason: str) -> None:
        super().__init__(
            "it was accepted, but the domain as declared in this process does not read "
            f"{event.type} of schema version {event.schema_version} ({reason}): deploy the version "
            "of the domain that made it, and redrive"
        )


def event_fields(event: FoldableEvent, correlation_id: str | None = None) -> dict[str, Any]:
    """Return the fields of a log line about an event."""
    return {
        "aggregate_id": event.aggregate_id,
        "event_id": event.id,
        "event_type": event.type,
        "version": event.version,
        "correlation_id": correlation_id or getattr(event, "correlation_id", None),
    }


class UnusableOffset(PartitionFault, Misconfigured):
    """The offset of a group is lost, or names a record that the log does not have."""


class Role(Protocol):
    """A role over one source partition of one domain; its calls never overlap.

    After Fenced the worker gives the partition up until it is reassigned, or is still assigned a
    session later. After ServerUnavailable it calls `open` again and goes on from there. After a
    PartitionFault or TopicRefused the partition stands still until it is reassigned. Any other
    error, Misconfigured among them, stops the process.
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
