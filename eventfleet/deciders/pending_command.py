"""PendingCommand: one command on its way through the marker, and the outcomes that it may get."""

from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Accepted, IdReused, Outcome, Rejected, Repeated
from eventfleet.deciders.proposed_event import ProposedEvent, is_too_large
from eventfleet.stores.contracts import (
    Incarnation,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.partitioner import Destination
from eventfleet.topics.record import ProducerRecord, make_tuple

MINE, STALE = MarkStatus.MINE, MarkStatus.STALE
UNMARKED = MarkResult(MarkStatus.AGAIN)

_encode = msgspec.json.Encoder().encode


class ProducedNote(NamedTuple):
    """A note whose event was produced, and not confirmed yet.

    `incarnation` is the one in which the note was found, `position` that of its event, `outcome`
    the command's once the event counts (None: the note is another command's).
    """

    note: Note
    incarnation: Incarnation
    position: Position
    outcome: Outcome | None


class PendingCommand:
    """A command that is not decided yet.

    `noted_here`: this process has noted the event, or may have, where Redis' answer was lost, and
    has told nobody; `new`: nobody can have noted it; `next`: the next command of the same
    aggregate; `basis`: the stored head that a missing marker is to be made of, read in
    `basis_incarnation`; `unconfirmed`: the note that was produced for it; `deadline`: its own, or
    that of all.
    """

    __slots__ = (
        *("index", "event", "allowed", "value", "new", "aggregate_id", "destination", "next"),
        *("decided", "noted_here", "basis", "basis_incarnation", "marked", "unconfirmed"),
        *("deadline", "_answer"),
    )

    def __init__(
        self,
        index: int,
        proposed: ProposedEvent,
        destination: Destination,
        deadline: datetime,
        answer: Answer,
    ) -> None:
        self.index, self.destination, self._answer = index, destination, answer
        self.event, self.allowed, self.value, self.new, own = proposed
        self.deadline = deadline if own is None else min(own, deadline)
        self.aggregate_id = self.event.aggregate_id
        self.next: PendingCommand | None = None
        self.marked = UNMARKED
        self.decided = self.noted_here = False
        self.restart()

    def restart(self) -> None:
        """Go through the marker from the beginning, the look at the store."""
        self.basis: StoredHead | None = None
        self.basis_incarnation: Incarnation | None = None
        self.unconfirmed: ProducedNote | None = None

    def answer(self, outcome: Outcome) -> None:
        self.decided = True
        self._answer(self.index, outcome)

    def mark_request(
        self, incarnation: Incarnation, deadline: float, owner: MarkOwner | None
    ) -> MarkRequest:
        """Return the request that marks the command until a deadline, in the markers' time."""
        event, seen, basis = self.event, self.basis_incarnation or incarnation, self.basis
        fields = self.aggregate_id, event.id, event.type, self.value, self.allowed, seen, basis
        return make_tuple(MarkRequest, (*fields, deadline, owner))

    def notify(self, address: str) -> None:
        """Have append send the notice of the event to an address, where the event has room."""
        event = replace(self.event, reply_to=address)
        value = encode(event)
        if not is_too_large(value):
            self.event, self.value = event, value

    def record(self) -> ProducerRecord:
        """The note as a record of the log."""
        value = b'%b,"prev":%b}' % (self.marked.value[:-1], _encode(self.marked.prev))
        return self.destination.record(self.aggregate_id, value)

    def await_confirmation(self, incarnation: Incarnation, position: Position) -> None:
        """Keep the note, which the log has at a position now, until it is confirmed."""
        note = make_tuple(Note, (self.aggregate_id, self.marked.event_id, self.marked.prev))
        fields = note, incarnation, position, confirmed_outcome(self)
        self.unconfirmed = make_tuple(ProducedNote, fields)


# Outcomes


def confirmed_outcome(command: PendingCommand) -> Outcome | None:
    """The outcome of a command once its note counts; None when the note is another command's."""
    status = command.marked.status
    if status is STALE:
        return None
    if status is MINE:
        noted, place = decode(command.marked.value), command.destination.name
        if not command.noted_here or not is_same_command(command.event, noted):
            return repeat_outcome(command.event, noted, place)
    return Accepted(command.event.id, command.destination.name)


def repeat_outcome(event: EventRecord, stored: EventRecord, place: str) -> Outcome:
    """The outcome of a command whose event id is stored, or was noted by another call."""
    return Repeated(event.id, place) if is_same_command(event, stored) else id_reused(stored)


def id_reused(known: EventRecord) -> IdReused:
    """The outcome of a command with the id of another one."""
    return IdReused(f"the command's id was used for another, {known.type}")


def is_same_command(event: EventRecord, known: EventRecord) -> bool:
    """Check that both come of one command. Payloads of two schema versions can't be compared."""
    if event.type != known.type:
        return False
    if event.schema_version != known.schema_version:
        return True
    return bool(msgspec.to_builtins(event.data, str_keys=True) == known.data)


def rejection(event_type: str, allowed: frozenset[str] | None, marked: str) -> Rejected:
    """The outcome where an event of this type may not follow one of the type `marked`."""
    may_follow = ", ".join(sorted(kind or "no event" for kind in allowed or ()))
    present = f"not {marked}" if marked else "and there is no event"
    return Rejected(f"{event_type} may follow {may_follow or 'nothing'}, {present}", marked)
