"""The contracts of stores, log, markers, notices, clock and ids, each documented only here.

Implementations promise no more than this, and each passes `tests/contract`. Every method may raise
`ServerUnavailable`, and bounds its own time. Sequences, given and returned, are small enough for
memory unless a method is documented as paged or streamed.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, NamedTuple, Protocol

from eventfleet.model.event_shapes import EventShape
from eventfleet.model.shapes import StateShape
from eventfleet.stores.errors import Duplicate
from eventfleet.topics.event import EventKey, EventRecord, Position
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
    """A query for an aggregate's events above version `after`, and for the event `event_id`."""

    aggregate_id: str
    after: int
    event_id: str


class Tail(NamedTuple):
    """The result of a TailQuery: `events` by version, and `found`, the event with the queried id
    (None: it is not stored)."""

    events: list[EventRecord]
    found: EventRecord | None


class VersionRange(NamedTuple):
    """The events of an aggregate with after < version <= up_to."""

    aggregate_id: str
    after: int
    up_to: int


@dataclass(frozen=True)
class AssignPosition:
    """A write that gives a stored event its position, unless the event has one by now."""

    event: EventRecord
    position: Position


Write = EventRecord | AssignPosition
"""An EventRecord here has its version and its position, and is stored as it is."""


class Page(NamedTuple):
    """A page of a listing: its items, and the opaque cursor of the next page.

    The cursor is valid also when `items` is empty: the listing may grow.
    """

    items: list[Any]
    cursor: str


class EventReader(Protocol):
    """Reads the events of one domain, ordered by version within each aggregate."""

    def read(
        self,
        aggregate_id: str,
        after: int = 0,
        up_to: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Stream the events with after < version <= up_to, in version order."""

    async def read_all(
        self, aggregate_ids: Collection[str], limit: int
    ) -> list[EventRecord] | None:
        """Return all events of these aggregates, by aggregate and version.

        None when there are more than `limit`. One query.
        """

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        """Return the stored events among these, by key.

        One query, which reads what a majority of the servers has.
        """

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        """Return the head of each of these aggregates that has events; one query for all."""

    async def tails(self, queries: Sequence[TailQuery], limit: int) -> list[Tail] | None:
        """Answer each query, in order; None when the tails have more than `limit` events in all.

        One query, which reads what a majority of the servers has.
        """

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        """Return the highest version whose time is not later than the moment; 0 if there is none.

        Times need not rise with the versions. One query, from the newest version down.
        """

    async def feed(self, cursor: str, limit: int) -> Page:
        """Page through the placed events (EventRecords) of the whole domain; "" is the beginning.

        Events come in position and version order within each partition. A reader that goes on from
        the cursor misses no event, however late it is placed. InvalidCursor: the cursor is not one
        of this feed.
        """

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        """Page through the ids (strings) of all aggregates, or of those of one partition, in order.

        "" is the beginning. InvalidCursor: the cursor is not one of this listing.
        """

    async def count(self) -> int:
        """Count the stored events."""


class EventSequencer(Protocol):
    """Stores the events of one domain, and gives each its place in the log's order."""

    async def write(self, writes: Sequence[Write]) -> None:
        """Do the writes durably (majority, journal) and in order, up to the first that clashes.

        Duplicate carries the index of the clashing write; the writes before it are done. After a
        first try whose answer was lost, a write may clash with itself. AssignPosition for an event
        that has a position already does nothing, and is no error.
        """

    async def put(self, events: Sequence[EventRecord], partition: int) -> None:
        """Store events of one aggregate, with versions but without positions: all or none.

        They count as unplaced in `partition` until an AssignPosition. Duplicate: an id or a version
        is taken.
        """

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        """Store one event for each of several aggregates as `put` does, each independently.

        `events` are pairs of event and partition; one write for all. Returns for each event None,
        or the Duplicate (with `index` 0) that kept it out.
        """

    async def unplaced(self, ranges: Collection[VersionRange]) -> list[EventRecord]:
        """Return the events in these ranges that have no position, by aggregate and version.

        The ranges are of different aggregates. Read in pages.
        """

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        """Return all events placed at these positions, by position and version."""

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        """Return up to `limit` unplaced events of a partition, by aggregate and version."""


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


class StoreRegistry(Protocol):
    """The facts that one domain's event store holds about itself."""

    async def epoch(self) -> int:
        """Return the domain's epoch: 0 until it is raised."""

    async def raise_epoch(self) -> int:
        """Raise the epoch, and return the new one; due after `<domain>.events` was recreated."""

    async def partition_count(self) -> int | None:
        """Return the registered number of the log's partitions in this epoch; None: there is
        none."""

    async def register_partition_count(self, count: int) -> int:
        """Register it where none is registered in this epoch; return the registered one."""

    async def event_shapes(self) -> list[EventShape]:
        """Return the recorded shapes of events, in the order in which they were recorded."""

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        """Record shapes in place of the recorded ones, durably; False where these are others."""

    async def next_offset(self, partition: int) -> int:
        """Return the offset below which the store holds all that append took from a partition.

        That of the present epoch; 0 where append has noted none.
        """

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

    async def repairs(self) -> list[Repair]:
        """Return all repairs, the oldest first."""


class EventStore(EventReader, EventSequencer, Protocol):
    """The events of one domain, ordered by version within each aggregate."""

    @property
    def registry(self) -> StoreRegistry:
        """The store's facts about itself."""

    async def prepare(self) -> None:
        """Create and verify the indexes, and register the schema.

        Misconfigured names an index that is missing or too weak, or another schema.
        """


# Snapshot store


@dataclass(frozen=True)
class Snapshot:
    """The state of an aggregate at a version. `taken_at` is when it was saved.

    `state_version` and `fingerprint` are the shape of the state. The fingerprint "", which no
    domain has, stands for a snapshot that was written without one.
    """

    aggregate_id: str
    version: int
    state: dict[str, Any]
    state_version: int
    taken_at: datetime
    fingerprint: str = ""

    @property
    def shape(self) -> StateShape:
        """The shape of the state."""
        return StateShape(self.state_version, self.fingerprint)


class SnapshotStore(Protocol):
    """The last snapshots of each aggregate of one domain, by the shape of their states.

    A snapshot of another shape is no snapshot. K of each shape are kept, of two shapes of an
    aggregate: the one saved last, and the other one with the highest version. So old code finds its
    own snapshots when it is restored, and those of shapes before that go.
    """

    async def prepare(self) -> None:
        """Create and verify the indexes. Misconfigured names one that is missing or too weak."""

    async def clear(self) -> None:
        """Remove all snapshots of the domain."""

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        """Save all in one bulk, and keep the last K snapshots of each aggregate and shape.

        A snapshot that exists already (same aggregate, version and shape) stays as it is. A
        snapshot older than those kept of its shape does not change what `latest` returns.
        """

    async def latest(
        self, aggregate_ids: Collection[str], shape: StateShape
    ) -> dict[str, Snapshot]:
        """Return the newest snapshot of this shape of each aggregate that has one.

        One query for all.
        """

    async def at(self, aggregate_id: str, version: int, shape: StateShape) -> Snapshot | None:
        """Return the newest snapshot of this shape at or below a version."""

    async def count(self) -> int:
        """Count the aggregates that have a snapshot."""


# Log


class Watermarks(NamedTuple):
    """The oldest offset that a partition still keeps, and the offset after its last record."""

    oldest: int
    end: int


class PartitionWriter(Protocol):
    """The sole right of a group's member to consume a source partition and write what results."""

    async def open(self) -> int | None:
        """Fence every earlier owner, then return the group's committed offset; None if it has none.

        After any error but Fenced it may be called again, to continue from what is committed.
        """

    async def watermarks(self) -> Watermarks:
        """Return the source partition's watermarks; callable once `open` has returned.

        While a new leader of the partition may still count its end too low, it is asked again: an
        end below the committed offset is that of a truncated log. Misconfigured: no such partition.
        """

    async def commit(self, records: Sequence[ProducerRecord], next_offset: int) -> None:
        """Write the records in order and move the group's offset, as one transaction.

        Without transactions, all records are acknowledged before the offset moves. Fenced: a later
        owner has opened. After any other error it is unknown what was committed: open again.
        """

    async def close(self) -> None:
        """Release the partition without committing. Never raises."""


class LogWriter(Protocol):
    """Produces records outside any transaction."""

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write, await every acknowledgement, and return each record's position (with epoch 0).

        Records of one partition keep their order.
        """

    async def close(self) -> None:
        """Release the connections. Never raises."""


class LogReader(Protocol):
    """Reads topics outside consumer groups: for audits, tests and tools."""

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        """Return the watermarks of each partition; empty for an unknown topic."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[LogRecord]:
        """Stream the committed records with start <= offset < end."""

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offsets that a group has committed, by partition (absent: none)."""

    async def close(self) -> None:
        """Release the connections. Never raises."""


class LogAdmin(Protocol):
    """Creates topics, checks their settings, and sets the offsets of groups at rest."""

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that do not exist, and return their names."""

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Return a sentence for each difference from the declaration; empty when there is none."""

    async def transactional(self) -> bool:
        """Return whether the broker has transactions."""

    async def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set a group's committed offsets, by partition. Misconfigured: the group has members."""

    async def close(self) -> None:
        """Release the connections. Never raises."""


# Markers


class MarkStatus(Enum):
    """The result of a MarkRequest."""

    OK = "ok"  # noted: produce the event, then confirm
    MINE = "mine"  # noted by an earlier try of this event: produce it, then confirm
    DONE = "done"  # this event was handled already, in this incarnation
    REJECTED = "rejected"  # the rule forbids this type after the marked type
    BUSY = "busy"  # another event is noted, for less than the lease
    STALE = "stale"  # another event is noted, for longer than the lease: finish it first
    MISSING = "missing"  # there is no marker of this incarnation: repeat with a basis
    AGAIN = "again"  # the read of the store behind the request is too old: read again


class Incarnation(NamedTuple):
    """A run of a Redis server with its data set; a restart, flush or failover begins another.

    `began` and `now` are seconds of Redis' own clock; `now` is when this was read.
    """

    id: str
    began: float
    now: float


class StoredHead(NamedTuple):
    """An aggregate's latest event according to the event store; both empty when it has none."""

    type: str
    event_id: str


class MarkRequest(NamedTuple):
    """A request to check one event against its aggregate's marker, and to note it there.

    `allowed`: the types that the event may follow, the empty string standing for no event; None
    allows any. `value`: the event's bytes without `prev`. `incarnation.now`: a time before the read
    of the event store that found the event new (and, with a `basis`, found what precedes it).
    """

    aggregate_id: str
    event_id: str
    type: str
    value: bytes
    allowed: frozenset[str] | None
    incarnation: Incarnation
    basis: StoredHead | None = None


class MarkResult(NamedTuple):
    """The result of a MarkRequest.

    With OK, MINE and STALE it holds the noted event, to be produced with its `prev`; a `tentative`
    one is accepted only when append has stored it. With REJECTED, `type` is the marked type.
    """

    status: MarkStatus
    event_id: str = ""
    prev: str = ""
    value: bytes = b""
    tentative: bool = False
    type: str = ""


class Note(NamedTuple):
    """A noted event that was produced, with the id of the event before it."""

    aggregate_id: str
    event_id: str
    prev: str

    @property
    def key(self) -> EventKey:
        return EventKey(self.aggregate_id, self.event_id)


class CurrentMarker(NamedTuple):
    """A marker as it stands: the type and id of the latest event.

    `noted`: that event is noted, and follows the event `prev`; otherwise `prev` is empty.
    """

    type: str
    event_id: str
    noted: bool
    prev: str = ""


class Markers(Protocol):
    """The marker of each aggregate of one domain: the type of its latest event, and its note.

    The note is the event on its way to the log, written ahead. A marker with a note never expires.
    """

    async def prepare(self) -> None:
        """Check the server. Misconfigured: it may evict keys."""

    async def incarnation(self) -> Incarnation:
        """Return the present incarnation and time."""

    async def read(self, aggregate_ids: Sequence[str]) -> dict[str, CurrentMarker]:
        """Return the marker of each of these aggregates that has one in this incarnation.

        Reads only; one pipeline.
        """

    async def mark(self, requests: Sequence[MarkRequest]) -> list[MarkResult]:
        """Check and note each event, in order, each atomically; one pipeline."""

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        """Clear each note that stands exactly so.

        True: it was cleared, or its event is known as handled in this incarnation. False: it is
        lost.
        """

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        """Delete the marker of each note that stands exactly so, and the memory of its event."""

    async def close(self) -> None:
        """Release the connections. Never raises."""


# Notices


class Stage(StrEnum):
    """A stage that an accepted event reaches; of the last two, neither comes before the other.

    Appended: readable from the store. Snapshotted: folded by the snapshot role, whether or not a
    snapshot was due. Relayed: relay's commit is past it, whether or not a route matched.
    """

    ACCEPTED = "accepted"
    APPENDED = "appended"
    SNAPSHOTTED = "snapshotted"
    RELAYED = "relayed"


class Notice(NamedTuple):
    """A notice that an event has reached a stage."""

    event_id: str
    stage: Stage


class Notices(Protocol):
    """Publishes notices to those who wait for events, by channel.

    Nothing is kept: a subscriber that is away, or too slow, misses notices.
    """

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        """Publish each channel's notices in order; in all, few enough for memory.

        After ServerUnavailable some of them may have been published.
        """

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Stream what is published on the channel from the block's beginning on.

        The stream ends with ServerUnavailable when it may have missed a notice, also where the
        server merely fell silent; subscribe again then.
        """

    async def close(self) -> None:
        """Release the publishing connections. Never raises."""


# Parked aggregates


class ParkedAggregates(Protocol):
    """The aggregates of a partition that one role has parked."""

    async def load(self, partition: int) -> frozenset[str]:
        """Return their ids."""


# Clock and ids


class Clock(Protocol):
    """Wall time, steady time and waiting."""

    def now(self) -> datetime:
        """Return the time in UTC, in whole milliseconds."""

    def steady(self) -> datetime:
        """Return a time that nobody sets: for deadlines and intervals, within one process."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class IdGenerator(Protocol):
    """Generates ids."""

    def new(self) -> str:
        """Return a fresh id; later ids sort after earlier ones (UUIDv7)."""


class DomainStores(NamedTuple):
    """The two stores of a domain."""

    events: EventStore
    snapshots: SnapshotStore


StoresByDomain = Mapping[str, DomainStores]
