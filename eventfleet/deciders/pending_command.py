"""One command on its way through the marker: what it may become, where it goes, what it is told."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from eventfleet.deciders.outcomes import Accepted, IdReused, Outcome, Rejected, Repeated
from eventfleet.stores.contracts import (
    Incarnation,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.topics.codec import EVENT_HEADERS, decode
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord, make_tuple

MINE, STALE = MarkStatus.MINE, MarkStatus.STALE
UNMARKED = MarkResult(MarkStatus.AGAIN)

_write = msgspec.json.Encoder().encode

Answer = Callable[[int, Outcome], None]


class ProposedEvent(NamedTuple):
    """The event that a command becomes (without `prev`; its payload plain, or of the command's
    class), the types that it may follow, the event's bytes, and whether the command's id was made
    for it: then nobody can have sent it before."""

    event: EventRecord
    allowed: frozenset[str] | None
    value: bytes
    new: bool = False


class ProducedNote(NamedTuple):
    """A note that the stream has: the life it was found in, where its event went, and what its
    command is answered when the event counts (None: the note is another command's)."""

    note: Note
    incarnation: Incarnation
    position: Position
    outcome: Outcome | None


class Destination(NamedTuple):
    """Where an event goes; `name` has both, for answers."""

    topic: str
    partition: int
    name: str


class PendingCommand:
    """One command that is not decided yet, and the next of the same aggregate, `behind` it."""

    __slots__ = (
        *("index", "event", "allowed", "value", "new", "aggregate_id", "to", "behind"),
        *("decided", "basis", "based_in", "marked", "awaiting", "_answer"),
    )

    def __init__(self, index: int, intent: ProposedEvent, to: Destination, answer: Answer) -> None:
        self.index, self.to, self._answer = index, to, answer
        self.event, self.allowed, self.value, self.new = intent
        self.aggregate_id = self.event.aggregate_id
        self.behind: PendingCommand | None = None
        self.marked = UNMARKED
        self.decided = False
        self.begin()

    def begin(self) -> None:
        """From the look at the store on."""
        self.basis: StoredHead | None = None
        self.based_in: Incarnation | None = None
        self.awaiting: ProducedNote | None = None

    def answer(self, outcome: Outcome) -> None:
        self.decided = True
        self._answer(self.index, outcome)

    def mark(self, incarnation: Incarnation) -> MarkRequest:
        """What marks it. From then on others may finish it, so its id is to be looked up."""
        self.new = False
        event, seen, basis = self.event, self.based_in or incarnation, self.basis
        noted = self.aggregate_id, event.id, event.type, self.value, self.allowed, seen, basis
        return make_tuple(MarkRequest, noted)

    def record(self) -> ProducerRecord:
        """The note as a record of the log."""
        value = b'%b,"prev":%b}' % (self.marked.value[:-1], _write(self.marked.prev))
        topic, partition, _ = self.to
        key = self.aggregate_id.encode()
        return ProducerRecord(topic, key, value, partition, EVENT_HEADERS)

    def produced(self, incarnation: Incarnation, at: Position) -> None:
        """The log has the note."""
        note = make_tuple(Note, (self.aggregate_id, self.marked.event_id, self.marked.prev))
        self.awaiting = make_tuple(ProducedNote, (note, incarnation, at, promise(self)))


def destination_of(event: EventRecord, partitions: int) -> Destination:
    return _destination(event.domain, partition_of(event.aggregate_id, partitions))


@lru_cache(maxsize=1024)
def _destination(domain: str, partition: int) -> Destination:
    topic = Topics.of(domain).events
    return Destination(topic, partition, f"{topic}/{partition}")


# What it is told


def promise(command: PendingCommand) -> Outcome | None:
    """What a command is answered when its note counts; None when the note is another's."""
    verdict = command.marked.status
    if verdict is STALE:
        return None
    if verdict is MINE:
        noted = decode(command.marked.value)
        if not same(command.event, noted):
            return refusal(noted)
    return Accepted(command.event.id, command.to.name)


def repetition(event: EventRecord, stored: EventRecord, place: str) -> Outcome:
    """The answer to a command whose event id is stored."""
    return Repeated(event.id, place) if same(event, stored) else refusal(stored)


def refusal(known: EventRecord) -> Rejected:
    """The answer to a command with the id of another one."""
    return IdReused(f"the command's id was used for another, {known.type}")


def same(event: EventRecord, known: EventRecord) -> bool:
    """Whether both come of one command. Payloads of two schema versions can't be compared."""
    if event.type != known.type:
        return False
    if event.schema_version != known.schema_version:
        return True
    return bool(msgspec.to_builtins(event.data) == known.data)


def rejection(command: PendingCommand) -> Rejected:
    return forbidden(command.event.type, command.allowed, command.marked.type)


def forbidden(event_type: str, allowed: frozenset[str] | None, marked: str) -> Rejected:
    """The answer where an event of this type may not follow one of the type `marked`."""
    may_follow = ", ".join(sorted(kind or "no event" for kind in allowed or ()))
    reason = f"{event_type} may follow {may_follow or 'nothing'}"
    return Rejected(f"{reason}, not {marked or 'no event'}", marked)
