"""Every contract of this room, documented here once; implementations add no promises.

Each implementation passes `tests/contract`. All methods may raise `ServerUnavailable`; all bound
their own time. Sequences are small enough for memory unless a method says that it is paged.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, NamedTuple, Protocol

from eventfleet.stores.errors import Duplicate
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

# Event store


class Head(NamedTuple):
    """The latest stored event of an aggregate; `placed` is the highest version with a position."""

    version: int
    event_id: str
    placed: int
    type: str


NO_HEAD = Head(0, "", 0, "")


class TailQuery(NamedTuple):
    """At what happened to an aggregate above a version, and whether an event is stored."""

    aggregate_id: str
    after: int
    event_id: str


class Tail(NamedTuple):
    """`events` by version; `known`: the one that was asked for, when it is stored."""

    events: list[EventRecord]
    known: EventRecord | None


@dataclass(frozen=True)
class AssignPosition:
    """Give an event that is stored without a position its position, unless it has one by now."""

    event: EventRecord
    position: Position


Write = EventRecord | AssignPosition
"""An event that has its version and position is stored as it is."""


class Page(NamedTuple):
    """Some items of a longer listing, and the opaque cursor to go on from (also when empty)."""

    items: list[Any]
    cursor: str


class EventStore(Protocol):
    """The events of one domain, ordered by version within each aggregate."""

    async def prepare(self) -> None:
        """Make and verify the indexes. Misconfigured names a missing or weaker one."""

    async def write(self, writes: Sequence[Write]) -> None:
        """Do the writes in order, durably (majority, journal), up to the first that clashes.

        Duplicate carries the index of the clashing write; those before it are done. It may clash
        with itself, where the answer to a first try was lost. A Place of an event that has a
        position already does nothing and is no error.
        """

    async def put(self, events: Sequence[EventRecord], partition: int) -> None:
        """Store events of one aggregate, with versions, without positions: all or none.

        They count as unplaced in `partition` until a Place. Duplicate when an id or version
        is taken.
        """

    async def find(self, event_ids: Collection[str]) -> dict[str, EventRecord]:
        """The stored events among these ids; one query. Reads what a majority has."""

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        """As `put`, of one event of each of several aggregates with its partition: one write, in
        which each is stored by itself. For each, what was taken (`index` 0), or None."""

    async def tails(self, looks: Sequence[TailQuery], limit: int) -> list[Tail] | None:
        """What there is to see for each look, in one query; None when that would be more than
        `limit` events. Reads what a majority has."""

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        """The heads of those aggregates that have events; one query for all."""

    async def unplaced(self, aggregate_ids: Collection[str]) -> list[EventRecord]:
        """The events of these aggregates that have no position, by aggregate and version."""

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        """All events placed at these positions, by position and version."""

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        """Up to `limit` unplaced events of a partition, by aggregate and version."""

    def read(
        self,
        aggregate_id: str,
        after: int = 0,
        upto: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Events with after < version <= upto, in version order, streamed."""

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        """The highest version whose time is not later than the moment; 0 where there is none.

        Times need not rise with the versions. One query, from the newest version down.
        """

    async def feed(self, cursor: str, limit: int) -> Page:
        """Placed events of the whole domain from a cursor on ("" is the beginning): EventRecords.

        In position and version order within each partition; nothing that is placed later is missed
        by going on from the cursor. InvalidCursor for a cursor that this store did not give.
        """

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        """Ids of aggregates (of one partition, where given) in id order, paged: strings."""

    async def count(self) -> int:
        """How many events are stored."""

    async def epoch(self) -> int:
        """The domain's epoch: 0 until raised."""

    async def raise_epoch(self) -> int:
        """Raise the epoch, after `<domain>.events` was made anew, and answer the new one."""

    async def has_placed(self, partition: int, epoch: int) -> bool:
        """Whether any event is placed from this partition in this epoch."""


# Snapshot store


@dataclass(frozen=True)
class Snapshot:
    """The state of an aggregate at a version. `taken_at` is when it was saved."""

    aggregate_id: str
    version: int
    state: dict[str, Any]
    state_version: int
    taken_at: datetime


class SnapshotStore(Protocol):
    """The last snapshots of each aggregate of one domain."""

    async def prepare(self) -> None:
        """Make and verify the indexes. Misconfigured names a missing or weaker one."""

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        """Save in one bulk and keep the last K of each aggregate.

        One that exists already (same aggregate, version, state version) stays as it is; an older
        one than those kept changes nothing that `latest` answers.
        """

    async def latest(
        self, aggregate_ids: Collection[str], state_version: int
    ) -> dict[str, Snapshot]:
        """The newest snapshot of each that has one with this state version; one query for all."""

    async def at(self, aggregate_id: str, version: int, state_version: int) -> Snapshot | None:
        """The newest snapshot at or below a version."""

    async def count(self) -> int:
        """How many aggregates have a snapshot."""


# Log


class PartitionWriter(Protocol):
    """The sole right to consume a source partition for a group and write what follows of it."""

    async def open(self) -> int | None:
        """Fence every earlier owner, then read the group's committed offset; None if it has none.

        May be called again after any error but Fenced, to go on from what was really committed.
        """

    async def commit(self, records: Sequence[ProducerRecord], next_offset: int) -> None:
        """Write the records in order and move the group's offset, as one transaction.

        Without transactions: all records are acknowledged before the offset moves. Fenced when a
        later owner has opened; after any other error nothing is known: open again.
        """

    async def close(self) -> None:
        """Let go, without committing. Never raises."""


class LogWriter(Protocol):
    """Plain producing, outside any transaction."""

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write, wait for the acknowledgements of all, and answer where each went (epoch 0).

        Records of one partition keep their order.
        """

    async def close(self) -> None:
        """Let go. Never raises."""


class Watermarks(NamedTuple):
    """The oldest kept offset and the one after the last, of one partition."""

    oldest: int
    end: int


class LogReader(Protocol):
    """Reading outside consumer groups: audits, tests, tools."""

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        """The bounds of each partition; empty for an unknown topic."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[LogRecord]:
        """The committed records with start <= offset < end."""

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offsets that a group has committed, by partition (absent: none)."""

    async def close(self) -> None:
        """Let go. Never raises."""


class LogAdmin(Protocol):
    """Topics: made once, checked at each start."""

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create those that are absent and answer their names."""

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        """What differs from the declaration, one sentence each; empty when all is well."""

    async def transactional(self) -> bool:
        """Whether the broker has transactions."""

    async def close(self) -> None:
        """Let go. Never raises."""


# Markers


class MarkStatus(Enum):
    """What a mark came to."""

    OK = "ok"  # noted: produce, then confirm
    MINE = "mine"  # my note stands from an earlier try: produce it, then confirm
    DONE = "done"  # this event was handled in this life
    REJECTED = "rejected"  # the rule forbids it after the marked type
    BUSY = "busy"  # another's note stands, younger than the lease
    STALE = "stale"  # another's note stands, older than the lease: finish it
    MISSING = "missing"  # no marker of this life: come again with a basis
    AGAIN = "again"  # what was seen is too old: look again


class Incarnation(NamedTuple):
    """A Redis server with its data set; another one after a restart, a flush or a failover.

    `began` and `now` are seconds of Redis' own clock; `now` is when this was read.
    """

    id: str
    began: float
    now: float


class StoredHead(NamedTuple):
    """The latest event of an aggregate as the store has it; both empty when it has none."""

    type: str
    event_id: str


class MarkRequest(NamedTuple):
    """Check and note one event. `allowed` are the types it may follow, the empty string standing
    for none; None allows any. `value` is the event's bytes without `prev`. `life.now` is when the
    look at the store began that says the event is new (and, with a basis, what came before)."""

    aggregate_id: str
    event_id: str
    type: str
    value: bytes
    allowed: frozenset[str] | None
    incarnation: Incarnation
    basis: StoredHead | None = None


class MarkResult(NamedTuple):
    """The answer to a mark. With OK, MINE and STALE: the note, to be produced with its `prev`.
    With REJECTED: the marked `type`."""

    status: MarkStatus
    event_id: str = ""
    prev: str = ""
    value: bytes = b""
    tentative: bool = False
    type: str = ""


class Note(NamedTuple):
    """A note that was produced: whose, and after which event."""

    aggregate_id: str
    event_id: str
    prev: str


class Markers(Protocol):
    """The marker of each aggregate of one domain: its latest event's type, and the event that is
    on its way. A marker with a note never expires."""

    async def prepare(self) -> None:
        """Misconfigured when the server may evict keys."""

    async def incarnation(self) -> Incarnation:
        """The present life and time."""

    async def mark(self, marks: Sequence[MarkRequest]) -> list[MarkResult]:
        """Check and note each, in order, each atomically; one pipeline."""

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        """Clear those notes that stand exactly so.

        True when it was cleared, or its event is known as handled in this life; False: lost.
        """

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        """Forget the marker and the event of those notes that stand exactly so."""

    async def close(self) -> None:
        """Let go. Never raises."""


# Notices


class Stage(StrEnum):
    """How far an accepted event has come. The last two are apart: neither comes before the other.

    Appended: readable from the store. Snapshotted: folded by the snapshot role, whether or not a
    snapshot was due. Relayed: relay's commit is past it, whether or not a route matched.
    """

    ACCEPTED = "accepted"
    APPENDED = "appended"
    SNAPSHOTTED = "snapshotted"
    RELAYED = "relayed"


class Notice(NamedTuple):
    """An event has come to a stage."""

    event_id: str
    stage: Stage


class Notices(Protocol):
    """Word of events to those who wait for them, by channel. Nothing is kept: who does not listen
    at that moment, or can't keep up, misses it."""

    async def publish(self, told: Mapping[str, Sequence[Notice]]) -> None:
        """Tell each channel its notices, in order; in all, so many as are small enough for memory.

        After ServerUnavailable some may have been told.
        """

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """What is published on the channel from the block's beginning on.

        The stream ends with ServerUnavailable when something may have been missed, also where a
        server has just fallen silent; subscribe again then.
        """

    async def close(self) -> None:
        """Let go of what publishes. Never raises."""


# Parked aggregates


class ParkedAggregates(Protocol):
    """The aggregates of a partition that one role has parked."""

    async def load(self, partition: int) -> frozenset[str]:
        """Their ids."""


# Clock and ids


class Clock(Protocol):
    """Wall time, and waiting."""

    def now(self) -> datetime:
        """UTC, whole milliseconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class IdGenerator(Protocol):
    """Where new ids come from."""

    def new(self) -> str:
        """A fresh id; later ones sort after earlier ones (UUIDv7)."""


class DomainStores(NamedTuple):
    """The two stores of a domain."""

    events: EventStore
    snapshots: SnapshotStore


StoresByDomain = Mapping[str, DomainStores]
