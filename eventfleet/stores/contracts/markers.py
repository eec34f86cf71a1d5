"""Contract of the markers, and of their notes."""

from collections.abc import Sequence
from enum import Enum
from math import inf
from typing import NamedTuple, Protocol

from eventfleet.topics.event import EventKey


class MarkStatus(Enum):
    """The result of a MarkRequest."""

    OK = "ok"  # noted: produce the event, then confirm
    MINE = "mine"  # noted by an earlier try of this event: produce it, then confirm
    DONE = "done"  # this event was handled already, in this incarnation
    REJECTED = "rejected"  # the rule forbids this type after the marked type
    BUSY = "busy"  # another event is noted, for less than the lease
    STALE = "stale"  # another event is noted, for longer than the lease: finish it first
    MISSING = "missing"  # there is no marker of this incarnation: repeat with a basis
    LATE = "late"  # the deadline has passed
    DISOWNED = "disowned"  # its owner is not the one noted in this incarnation
    AGAIN = "again"  # the read of the store behind the request is too old: read again


class Incarnation(NamedTuple):
    """A run of a Redis server with its data set; a restart, flush or failover begins another.

    `began` and `now` are seconds of Redis' own clock; `now` is when this was read. `is_first`: the
    domain is known to have begun in it, so that nothing of an earlier one is under way.
    """

    id: str
    began: float
    now: float
    is_first: bool = False


class StoredHead(NamedTuple):
    """An aggregate's latest event according to the event store; both empty when it has none."""

    type: str
    event_id: str


class MarkOwner(NamedTuple):
    """The owner of a partition of commands, by an id that is noted once only."""

    partition: int
    id: str


class MarkRequest(NamedTuple):
    """A request to check one event against its aggregate's marker, and to note it there.

    `allowed`: the types that the event may follow, the empty string standing for no event; None
    allows any. `value`: the event's bytes without `prev`. `incarnation.now`: a time before the read
    of the event store that found the event new (and, with a `basis`, found what precedes it). Past
    its `deadline`, in seconds of the markers' clock, nothing is noted, nor for an `owner` after
    whom another was noted; a request without one, such as a service's, has no owner to be.
    """

    aggregate_id: str
    event_id: str
    type: str
    value: bytes
    allowed: frozenset[str] | None
    incarnation: Incarnation
    basis: StoredHead | None = None
    deadline: float = inf
    owner: MarkOwner | None = None


class MarkResult(NamedTuple):
    """The result of a MarkRequest.

    With OK, MINE and STALE it holds the noted event, to be produced with its `prev`; a `tentative`
    one is accepted only when append has stored it. With REJECTED, `type` and `event_id` are those
    of the marked event; a `tentative` marker may have missed a later one, which the store has then.
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

    async def check_writable(self) -> None:
        """Write something that nobody reads; raises what a mark would."""

    async def incarnation(self) -> Incarnation:
        """Return the present incarnation and time."""

    async def read(self, aggregate_ids: Sequence[str]) -> dict[str, CurrentMarker]:
        """Return the marker of each of these aggregates that has one in this incarnation.

        Reads only; one pipeline.
        """

    async def note_owner(self, owner: MarkOwner, incarnation: Incarnation) -> None:
        """Note who marks for a partition in this incarnation, in place of the one before."""

    async def mark(self, requests: Sequence[MarkRequest]) -> list[MarkResult]:
        """Check and note each event, in order, each atomically; one pipeline."""

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        """Clear each note that stands exactly so.

        True: it was cleared, or its event is known as handled in this incarnation. False: it is
        lost.
        """

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        """Delete the marker of each note that stands exactly so, and the memory of its event."""

    async def drop(self, keys: Sequence[EventKey], incarnation: Incarnation) -> None:
        """Delete the marker of each aggregate whose latest event is this one, without a note."""

    async def close(self) -> None:
        """Release the connections. Never raises."""
