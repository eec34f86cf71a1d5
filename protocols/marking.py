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
from typing import NamedTuple

import orjson

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
from topics.codec import CONTENT_TYPE, decode, encode
from topics.event import EventRecord, Position
from topics.names import Topics
from topics.partitioner import partition_of
from topics.record import Outgoing

PAUSE = 0.05
HEADERS = (("content-type", CONTENT_TYPE),)
NOTED = (Verdict.OK, Verdict.MINE, Verdict.STALE)

Answer = Callable[[int, Outcome], None]


# What it takes


class Intent(NamedTuple):
    """The event that a command becomes (without `prev`), and the types that it may follow."""

    event: EventRecord
    allowed: frozenset[str] | None


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


class Pending:
    """One command that is not decided yet."""

    def __init__(self, index: int, intent: Intent, partitions: int, answer: Answer) -> None:
        self.index, self.event, self.allowed = index, intent.event, intent.allowed
        self.value = encode(intent.event)
        self.partition = partition_of(intent.event.aggregate_id, partitions)
        self.place = f"{Topics.of(intent.event.domain).events}/{self.partition}"
        self.decided = False
        self._answer = answer
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
        event = self.event
        return Mark(
            event.aggregate_id,
            event.id,
            event.type,
            self.value,
            self.allowed,
            self.based_in or life,
            self.basis,
        )


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
        pending = [Pending(i, intent, self._partitions, answer) for i, intent in enumerate(intents)]
        reason = "the deadline has passed"
        while pending and self._clock.now() < deadline:
            turn = list({p.event.aggregate_id: p for p in reversed(pending)}.values())
            began = self._clock.now()
            try:
                looked = await self._round(turn, deadline)
                moved = looked or any(p.decided or p.basis for p in turn)
            except errors.Unavailable as error:
                reason, moved = str(error), False
            self.tally.rounds += 1
            self.tally.seconds += (self._clock.now() - began).total_seconds()
            pending = [p for p in pending if not p.decided]
            if pending and not moved:
                await self._clock.sleep(PAUSE * (0.5 + self._chance()))
        for command in pending:
            command.answer(Unavailable(reason))

    async def _round(self, turn: Sequence[Pending], deadline: datetime) -> bool:
        """Whether it ended with a new look at the time: worth another round at once."""
        life = await self._guard.life()
        await self._settle([p for p in turn if p.awaiting])
        ready = [p for p in turn if not p.awaiting and not p.decided]
        ready = [p for p in ready if p.basis or self._guard.holds(p.partition, life)]
        ready = await self._unknown(ready)
        if not ready:
            return False
        marked = await self._markers.mark([p.mark(life) for p in ready])
        judged = list(zip(ready, marked, strict=True))
        for command, mark in judged:
            self._judge(command, mark)
        # A note of a former life must not come into the log when this one has forgotten it.
        if self._clock.now() < deadline:
            await self._produce([(p, m) for p, m in judged if m.verdict in NOTED], life)
        await self._rebase([p for p, m in judged if m.verdict is Verdict.MISSING], life)
        again = any(m.verdict is Verdict.AGAIN for m in marked)
        if again:
            await self._guard.look()
        return again

    async def _unknown(self, ready: Sequence[Pending]) -> list[Pending]:
        """Those that the store does not have yet; the others are repeats."""
        looked = [p.event.id for p in ready if not p.basis]
        found = await self._store.find(looked) if looked else {}
        self.tally.lookups += len(looked)
        for command in ready:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.place))
        return [p for p in ready if not p.decided]

    def _judge(self, command: Pending, marked: Marked) -> None:
        """Answer what is decided."""
        command.begin()
        if marked.verdict is Verdict.REJECTED:
            command.answer(rejection(command, marked.type))
        elif marked.verdict is Verdict.DONE:
            command.answer(Repeated(command.event.id, command.place))

    async def _rebase(self, missing: Sequence[Pending], life: Life) -> None:
        """Read what the marker is to be made of, and then look the own id up again."""
        missing = [p for p in missing if self._guard.holds(p.partition, life)]
        if not missing:
            return
        heads = await self._store.heads([p.event.aggregate_id for p in missing])
        latest = await self._store.find([head.event_id for head in heads.values()])
        found = await self._store.find([p.event.id for p in missing])
        self.tally.lookups += len(heads) + len(missing)
        for command in missing:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.place))
                continue
            head = heads.get(command.event.aggregate_id)
            event = latest[head.event_id] if head else None
            command.basis = Basis(event.type, event.id) if event else Basis("", "")
            command.based_in = life

    # Out, and confirmed

    async def _produce(self, noted: Sequence[tuple[Pending, Marked]], life: Life) -> None:
        """Produce what is noted, and clear the notes. Only append knows of one that is lost."""
        if not noted:
            return
        outcomes = [promise(command, marked) for command, marked in noted]
        try:
            positions = await self._writer.produce([self._record(p, m) for p, m in noted])
        except errors.Unavailable as error:
            for (command, _), outcome in zip(noted, outcomes, strict=True):
                if outcome:
                    command.answer(Unavailable(str(error)))
            return
        for (command, marked), at, outcome in zip(noted, positions, outcomes, strict=True):
            note = Note(command.event.aggregate_id, marked.event_id, marked.prev)
            command.awaiting = Produced(note, life, at, outcome)
            self.tally.finished += outcome is None
        firm = [command for command, marked in noted if not marked.tentative]
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

    def _record(self, command: Pending, marked: Marked) -> Outgoing:
        prev = b',"prev":' + orjson.dumps(marked.prev) + b"}"
        key = command.event.aggregate_id.encode()
        topic = Topics.of(command.event.domain).events
        return Outgoing(topic, key, marked.value[:-1] + prev, command.partition, HEADERS)


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


def promise(command: Pending, marked: Marked) -> Outcome | None:
    """What a command is answered when its note counts; None when the note is another's."""
    if marked.verdict is Verdict.STALE:
        return None
    if marked.verdict is Verdict.MINE:
        noted = decode(marked.value)
        if not same(command.event, noted):
            return refusal(noted)
    return Accepted(command.event.id, command.place)


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


def rejection(command: Pending, marked: str) -> Rejected:
    allowed = ", ".join(sorted(kind or "no event" for kind in command.allowed or ()))
    reason = f"{command.event.type} may follow {allowed or 'nothing'}"
    return Rejected(f"{reason}, not {marked or 'no event'}", marked)
