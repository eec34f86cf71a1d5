"""Marking: decides commands on the marker, the latest event's type of each aggregate.

Takes commands as events to be. One round looks their ids up in the store, marks them, produces
what was noted and confirms it, each step once for all; one command of an aggregate a round. What a
round leaves undecided (a note of another, a marker to be made anew, a note whose fate only append
knows) goes on in the next, until the deadline. A produce that fails leaves its note standing:
whoever comes next finishes it.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from protocols.guard import LagGuard
from protocols.outcomes import Accepted, Outcome, Rejected, Repeated, Unavailable
from stores import errors
from stores.contracts import (
    Basis,
    Clock,
    EventStore,
    Life,
    LogWriter,
    Mark,
    Marked,
    Markers,
    Note,
    Verdict,
)
from topics.codec import CONTENT_TYPE, decode
from topics.event import EventRecord, Position
from topics.names import Topics
from topics.partitioner import partition_of
from topics.record import Outgoing

PAUSE = 0.05
HEADERS = (("content-type", CONTENT_TYPE),)
OK, MINE, STALE = Verdict.OK, Verdict.MINE, Verdict.STALE
REJECTED, DONE = Verdict.REJECTED, Verdict.DONE
MISSING, AGAIN = Verdict.MISSING, Verdict.AGAIN
NOTED = (OK, MINE, STALE)
UNMARKED = Marked(AGAIN)
NOTHING = Basis("", "")

_write = msgspec.json.Encoder().encode
_new = tuple.__new__
"""Makes a named tuple of all its fields, without a call of Python for each."""

Answer = Callable[[int, Outcome], None]


# What it takes


class Intent(NamedTuple):
    """The event that a command becomes (without `prev`), the types that it may follow, and the
    event's bytes."""

    event: EventRecord
    allowed: frozenset[str] | None
    value: bytes


class Produced(NamedTuple):
    """A note that the stream has: the life it was found in, where its event went, and what its
    command is answered when the event counts (None: the note is another command's)."""

    note: Note
    life: Life
    position: Position
    outcome: Outcome | None


@dataclass
class Tally:
    """What a Marking has done so far: rounds, their seconds in all, ids looked up in the store,
    and stale notes of others that it has produced."""

    rounds: int = 0
    seconds: float = 0.0
    lookups: int = 0
    finished: int = 0


class Place(NamedTuple):
    """Where an event goes; `name` has both, for answers."""

    topic: str
    partition: int
    name: str


class Pending:
    """One command that is not decided yet, and the next of the same aggregate, `behind` it."""

    __slots__ = (
        *("index", "event", "allowed", "value", "aggregate_id", "place", "behind"),
        *("decided", "basis", "based_in", "marked", "awaiting", "_answer"),
    )

    def __init__(self, index: int, intent: Intent, place: Place, answer: Answer) -> None:
        self.index, self.place, self._answer = index, place, answer
        self.event, self.allowed, self.value = intent
        self.aggregate_id = self.event.aggregate_id
        self.behind: Pending | None = None
        self.marked = UNMARKED
        self.decided = False
        self.begin()

    def begin(self) -> None:
        """From the look at the store on."""
        self.basis: Basis | None = None
        self.based_in: Life | None = None
        self.awaiting: Produced | None = None

    def answer(self, outcome: Outcome) -> None:
        self.decided = True
        self._answer(self.index, outcome)

    def mark(self, life: Life) -> Mark:
        event, seen, basis = self.event, self.based_in or life, self.basis
        noted = self.aggregate_id, event.id, event.type, self.value, self.allowed, seen, basis
        return _new(Mark, noted)

    def note(self) -> Note:
        return _new(Note, (self.aggregate_id, self.marked.event_id, self.marked.prev))


class Marking:
    """The marker protocol of one domain, for any number of commands at once.

    A deadline's distance and the bound of a produce are together less than the markers' expiry.
    """

    def __init__(
        self,
        store: EventStore,
        markers: Markers,
        writer: LogWriter,
        guard: LagGuard,
        clock: Clock,
        *,
        partitions: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._markers, self._writer = store, markers, writer
        self._guard, self._clock, self._chance = guard, clock, chance
        self._partitions = partitions
        self.tally = Tally()

    # What it does to some commands

    async def decide(self, intents: Sequence[Intent], deadline: datetime, answer: Answer) -> None:
        """Answer each by its index, as soon as it is decided; Unavailable at the deadline."""
        turn = self._firsts(intents, answer)
        reason = "the deadline has passed"
        while turn and self._clock.now() < deadline:
            began = self._clock.now()
            try:
                looked = await self._round(turn, deadline)
                moved = looked or any(p.decided or p.basis for p in turn)
            except errors.Unavailable as error:
                reason, moved = str(error), False
            self.tally.rounds += 1
            self.tally.seconds += (self._clock.now() - began).total_seconds()
            turn = [p for each in turn if (p := each.behind if each.decided else each)]
            if turn and not moved:
                await self._clock.sleep(PAUSE * (0.5 + self._chance()))
        while turn:
            for command in turn:
                command.answer(Unavailable(reason))
            turn = [p for each in turn if (p := each.behind)]

    def _firsts(self, intents: Sequence[Intent], answer: Answer) -> list[Pending]:
        """The first command of each aggregate, the others in their order behind it."""
        firsts: list[Pending] = []
        lasts: dict[str, Pending] = {}
        for index, intent in enumerate(intents):
            event = intent.event
            last = lasts.get(event.aggregate_id)
            place = last.place if last else place_of(event, self._partitions)
            command = lasts[event.aggregate_id] = Pending(index, intent, place, answer)
            if last:
                last.behind = command
            else:
                firsts.append(command)
        return firsts

    async def _round(self, turn: Sequence[Pending], deadline: datetime) -> bool:
        """Whether it ended with a new look at the time: worth another round at once."""
        life = await self._guard.life()
        await self._settle([p for p in turn if p.awaiting])
        ready = await self._unknown(self._ready(turn, life))
        if not ready:
            return False
        based = any(p.basis for p in ready)
        await self._mark(ready, life)
        # A note of a former life must not come into the log when this one has forgotten it.
        if self._clock.now() < deadline:
            await self._produce([p for p in ready if p.marked.verdict in NOTED], life)
        await self._rebase([p for p in ready if p.marked.verdict is MISSING], life)
        again = any(p.marked.verdict is AGAIN for p in ready)
        # A marker that was made in this round is younger than what was seen before it.
        if again or based:
            await self._guard.look()
        return again

    def _ready(self, turn: Sequence[Pending], life: Life) -> list[Pending]:
        """Those that wait for nothing, and whose basis is there or may be read."""
        free = [p for p in turn if not (p.awaiting or p.decided)]
        trusted = self._trusted([p for p in free if not p.basis], life)
        return [p for p in free if p.basis or p.place.partition in trusted]

    def _trusted(self, commands: Sequence[Pending], life: Life) -> set[int]:
        """The partitions of these commands for which the store may be asked."""
        partitions = {p.place.partition for p in commands}
        return {partition for partition in partitions if self._guard.holds(partition, life)}

    async def _unknown(self, ready: Sequence[Pending]) -> Sequence[Pending]:
        """Those that the store does not have yet; the others are repeats."""
        looked = [p.event.id for p in ready if not p.basis]
        found = await self._store.find(looked) if looked else {}
        self.tally.lookups += len(looked)
        if not found:
            return ready
        for command in ready:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.place.name))
        return [p for p in ready if not p.decided]

    async def _mark(self, ready: Sequence[Pending], life: Life) -> None:
        """Mark them, and answer what is decided by that."""
        marks = await self._markers.mark([p.mark(life) for p in ready])
        for command, marked in zip(ready, marks, strict=True):
            command.begin()
            command.marked = marked
            if marked.verdict is REJECTED:
                command.answer(rejection(command))
            elif marked.verdict is DONE:
                command.answer(Repeated(command.event.id, command.place.name))

    async def _rebase(self, missing: Sequence[Pending], life: Life) -> None:
        """Read what the marker is to be made of, and then look the own id up again."""
        trusted = self._trusted(missing, life)
        missing = [p for p in missing if p.place.partition in trusted]
        if not missing:
            return
        heads = await self._store.heads([p.aggregate_id for p in missing])
        found = await self._store.find([p.event.id for p in missing])
        self.tally.lookups += len(missing)
        for command in missing:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.place.name))
                continue
            head = heads.get(command.aggregate_id)
            command.basis = Basis(head.type, head.event_id) if head else NOTHING
            command.based_in = life

    # Out, and confirmed

    async def _produce(self, noted: Sequence[Pending], life: Life) -> None:
        """Produce what is noted, and clear the notes. Only append knows of one that is lost."""
        if not noted:
            return
        try:
            positions = await self._writer.produce([_record(command) for command in noted])
        except errors.Unavailable as error:
            for command in noted:
                if command.marked.verdict is not STALE:
                    command.answer(Unavailable(str(error)))
            return
        for command, at in zip(noted, positions, strict=True):
            command.awaiting = _new(Produced, (command.note(), life, at, promise(command)))
            self.tally.finished += command.marked.verdict is STALE
        firm = [command for command in noted if not command.marked.tentative]
        if firm:
            cleared = await self._markers.confirm([note for note, _ in notes_of(firm)], life)
            for command, clear in zip(firm, cleared, strict=True):
                if clear:
                    self._finish(command)

    async def _settle(self, commands: Sequence[Pending]) -> None:
        """The verdict of append, once it has passed a tentative or lost note: stored or not."""
        passed = [p for p in commands if p.awaiting and self._passed(p.awaiting)]
        if not passed:
            return
        found = await self._store.find([note.event_id for note, _ in notes_of(passed)])
        stored = [p for p in passed if p.awaiting and p.awaiting.note.event_id in found]
        superseded = [p for p in passed if p not in stored]
        for life, notes in by_life(superseded):
            await self._markers.withdraw(notes, life)
        for life, notes in by_life(stored):
            await self._markers.confirm(notes, life)
        for command in superseded:
            command.begin()
        for command in stored:
            self._finish(command)

    def _passed(self, produced: Produced) -> bool:
        return self._guard.passed(produced.position.partition, produced.position.offset)

    def _finish(self, command: Pending) -> None:
        """A note of one's own is an answer; another's that was finished makes room for it."""
        if command.awaiting and command.awaiting.outcome:
            command.answer(command.awaiting.outcome)
        command.begin()


def _record(command: Pending) -> Outgoing:
    """The note as a record of the log."""
    value = b'%b,"prev":%b}' % (command.marked.value[:-1], _write(command.marked.prev))
    topic, partition, _ = command.place
    key = command.aggregate_id.encode()
    return _new(Outgoing, (topic, key, value, partition, HEADERS, None))


def place_of(event: EventRecord, partitions: int) -> Place:
    return _place(event.domain, partition_of(event.aggregate_id, partitions))


@lru_cache(maxsize=1024)
def _place(domain: str, partition: int) -> Place:
    topic = Topics.of(domain).events
    return Place(topic, partition, f"{topic}/{partition}")


def notes_of(commands: Iterable[Pending]) -> list[tuple[Note, Life]]:
    """The notes that these commands have produced."""
    return [(p.awaiting.note, p.awaiting.life) for p in commands if p.awaiting]


def by_life(commands: Iterable[Pending]) -> list[tuple[Life, list[Note]]]:
    """The same, by the life in which they were noted."""
    grouped: dict[str, tuple[Life, list[Note]]] = {}
    for note, life in notes_of(commands):
        grouped.setdefault(life.id, (life, []))[1].append(note)
    return list(grouped.values())


# Answers


def promise(command: Pending) -> Outcome | None:
    """What a command is answered when its note counts; None when the note is another's."""
    verdict = command.marked.verdict
    if verdict is STALE:
        return None
    if verdict is MINE:
        noted = decode(command.marked.value)
        if not same(command.event, noted):
            return refusal(noted)
    return Accepted(command.event.id, command.place.name)


def repetition(event: EventRecord, stored: EventRecord, place: str) -> Outcome:
    """The answer to a command whose event id is stored."""
    return Repeated(event.id, place) if same(event, stored) else refusal(stored)


def refusal(known: EventRecord) -> Rejected:
    """The answer to a command with the id of another one."""
    return Rejected(f"the command's id was used for another, {known.type}", "")


def same(event: EventRecord, known: EventRecord) -> bool:
    """Whether both come of one command. Payloads of two schema versions can't be compared."""
    if event.type != known.type:
        return False
    return event.schema_version != known.schema_version or event.data == known.data


def rejection(command: Pending) -> Rejected:
    marked = command.marked.type
    allowed = ", ".join(sorted(kind or "no event" for kind in command.allowed or ()))
    reason = f"{command.event.type} may follow {allowed or 'nothing'}"
    return Rejected(f"{reason}, not {marked or 'no event'}", marked)
