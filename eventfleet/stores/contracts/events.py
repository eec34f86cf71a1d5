"""Contract of the event store: reading, and giving events their place in the order."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from eventfleet.stores.contracts.outbox import Outbox
from eventfleet.stores.contracts.registry import StoreRegistry
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import Duplicate
from eventfleet.topics.event import EventKey, EventRecord, Position


class Head(NamedTuple):
    """The latest stored event of an aggregate; `placed` is the highest version with a position.

    `parked`: append parks the event, and those before it down to the placed ones.
    """

    version: int
    event_id: str
    placed: int
    type: str
    parked: bool = False

    @property
    def readable(self) -> int:
        """The highest version that is read: no reader sees what is parked."""
        return self.placed if self.parked else self.version


NO_HEAD = Head(0, "", 0, "")


class TailQuery(NamedTuple):
    """A query for an aggregate's events above version `after`, for the event `event_id`, and for
    the events with the ids `seen`."""

    aggregate_id: str
    after: int
    event_id: str
    seen: tuple[str, ...] = ()


class Tail(NamedTuple):
    """The result of a TailQuery: `events` by version; `found`, the event with the queried id (None:
    it is not stored); and those of the events `seen` that are stored."""

    events: list[EventRecord]
    found: EventRecord | None
    seen: Sequence[EventRecord] = ()


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


@dataclass(frozen=True)
class ParkEvent:
    """A write that stores an event without its position, since append can't place it there.

    The event has its version, and counts as unplaced in the position's partition. Readers do not
    see it; `find`, `heads`, `unplaced`, `sweep` and `parked` do.
    """

    event: EventRecord
    position: Position


@dataclass(frozen=True)
class PlaceParked:
    """A write that gives a parked event its position, unless it has one, or was refused there or
    later."""

    event: EventRecord
    position: Position


@dataclass(frozen=True)
class RefuseParked:
    """A write that keeps a parked event from being placed at a position or before; nothing where it
    has its position."""

    event: EventRecord
    position: Position


ParkedWrite = ParkEvent | PlaceParked | RefuseParked
Write = EventRecord | AssignPosition | ParkedWrite
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

    async def placed(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        """Return a partition's next placed events behind a point, in order; empty only at the end.

        As in `feed`, a reader that goes on from the last one's point misses none.
        """

    async def last_placed(self, partition: int) -> FeedPoint:
        """Return the point of a partition's last placed event, or the one before its first."""

    async def parked(self) -> set[str]:
        """Return the ids of the aggregates of which append parks events.

        One query, which reads what a majority of the servers has.
        """

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        """Page through the ids (strings) of all aggregates, or of those of one partition, in order.

        "" is the beginning. InvalidCursor: the cursor is not one of this listing.
        """

    async def newest_epoch(self) -> int:
        """Return the highest epoch in which an event is placed; 0 if there is none."""

    async def count(self) -> int:
        """Count the stored events."""


class EventSequencer(Protocol):
    """Stores the events of one domain, and gives each its place in the log's order."""

    async def write(self, writes: Sequence[Write]) -> None:
        """Do the writes durably (majority, journal) and in order, up to the first that clashes.

        Duplicate carries the index of the clashing write; the writes before it are done. After a
        first try whose answer was lost, a write may clash with itself. Only what stores an event
        clashes: the other writes do nothing where they do not apply.
        """

    async def put(
        self, events: Sequence[EventRecord], partition: int, *, to_publish: bool = False
    ) -> None:
        """Store events of one aggregate, with versions but without positions: all or none.

        They count as unplaced in `partition` until an AssignPosition. With `to_publish` the same
        write makes them pending in the outbox, which must be prepared. Duplicate: an id or a
        version is taken.
        """

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        """Store one event for each of several aggregates as `put` does, each independently.

        `events` are pairs of event and partition; one write for all. Returns for each event None,
        or the Duplicate (with `index` 0) that kept it out.
        """

    async def mark_discarded(self, key: EventKey, *, parked: bool = False) -> None:
        """Mark a stored event as discarded, durably; a second time changes nothing.

        With `parked` nothing changes either unless append parks the event.
        """

    async def unplaced(self, ranges: Collection[VersionRange]) -> list[EventRecord]:
        """Return the events in these ranges that have no position, by aggregate and version.

        The ranges are of different aggregates. Read in pages.
        """

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        """Return all events placed at these positions, by position and version."""

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        """Return up to `limit` unplaced events of a partition, by aggregate and version."""


class EventStore(EventReader, EventSequencer, Protocol):
    """The events of one domain, ordered by version within each aggregate."""

    @property
    def registry(self) -> StoreRegistry:
        """The store's facts about itself."""

    @property
    def outbox(self) -> Outbox:
        """The pending events. `prepare` leaves its index out: most domains have none."""

    async def prepare(self) -> None:
        """Create and verify the indexes, and register the schema.

        Misconfigured names an index that is missing or too weak, or another schema.
        """
