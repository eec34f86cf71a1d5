"""Marking: decides commands on the marker, the latest event's type of each aggregate.

Takes commands as events to be. One round looks their ids up in the store, marks them, produces
what was noted and confirms it, each step once for all; one command of an aggregate a round. What a
round leaves undecided (a note of another, a marker to be made anew, a note whose fate only append
knows) goes on in the next, until the deadline. A produce that fails leaves its note standing:
whoever comes next finishes it.
"""

import random
from collections.abc import Callable, Sequence
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
from topics.codec import CONTENT_TYPE, encode
from topics.event import EventRecord, Position
from topics.names import Topics
from topics.partitioner import partition_of
from topics.record import Outgoing

PAUSE = 0.05
HEADERS = (("content-type", CONTENT_TYPE),)

Answer = Callable[[int, Outcome], None]


# What it takes


class Intent(NamedTuple):
    """The event that a command becomes (without `prev`), and the types that it may follow."""

    event: EventRecord
    allowed: frozenset[str] | None


class Produced(NamedTuple):
    """A note that the stream has: whether it is the command's own, and where it went."""

    note: Note
    own: bool
    position: Position


class Pending:
    """One command that is not decided yet."""

    def __init__(self, index: int, intent: Intent, partitions: int) -> None:
        self.index, self.event, self.allowed = index, intent.event, intent.allowed
        self.value = encode(intent.event)
        self.partition = partition_of(intent.event.aggregate_id, partitions)
        self.place = f"{Topics.of(intent.event.domain).events}/{self.partition}"
        self.begin()
        self.decided = False

    def begin(self) -> None:
        """From the look at the store on."""
        self.basis: Basis | None = None
        self.based_in: Life | None = None
        self.awaiting: Produced | None = None

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
    """The marker protocol of one domain, for any number of commands at once."""

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

    # What it does to some commands

    async def decide(self, intents: Sequence[Intent], deadline: datetime, answer: Answer) -> None:
        """Answer each by its index, as soon as it is decided; Unavailable at the deadline."""
        pending = [Pending(i, intent, self._partitions) for i, intent in enumerate(intents)]
        reason = "the deadline has passed"
        while pending and self._clock.now() < deadline:
            turn = list({p.event.aggregate_id: p for p in reversed(pending)}.values())
            try:
                await self._round(turn, answer)
            except errors.Unavailable as error:
                reason = str(error)
            left = [p for p in pending if not p.decided]
            if len(left) == len(pending):
                await self._clock.sleep(PAUSE * (0.5 + self._chance()))
            pending = left
        for command in pending:
            answer(command.index, Unavailable(reason))

    async def _round(self, turn: Sequence[Pending], answer: Answer) -> None:
        life = await self._guard.life()
        await self._settle([p for p in turn if p.awaiting], answer)
        fresh = [p for p in turn if not p.awaiting and not p.decided]
        ready = [p for p in fresh if p.basis or self._guard.holds(p.partition, life)]
        ready = await self._unknown(ready, answer)
        if ready:
            marked = await self._markers.mark([p.mark(life) for p in ready])
            noted = [
                (p, m) for p, m in zip(ready, marked, strict=True) if self._judge(p, m, answer)
            ]
            missing = [
                p for p, m in zip(ready, marked, strict=True) if m.verdict is Verdict.MISSING
            ]
            if any(m.verdict is Verdict.AGAIN for m in marked):
                await self._guard.look()
            await self._produce(noted, answer)
            await self._rebase(missing, life, answer)

    async def _unknown(self, ready: Sequence[Pending], answer: Answer) -> list[Pending]:
        """Those that the store does not have yet; the others are repeats."""
        looked = [p.event.id for p in ready if not p.basis]
        found = await self._store.find(looked) if looked else {}
        for command in ready:
            if stored := found.get(command.event.id):
                self._repeat(command, stored, answer)
        return [p for p in ready if not p.decided]

    def _judge(self, command: Pending, marked: Marked, answer: Answer) -> bool:
        """Answer what is decided; whether there is a note to be produced."""
        verdict = marked.verdict
        command.begin()
        if verdict is Verdict.REJECTED:
            self._answer(command, self._rejection(command, marked.type), answer)
        elif verdict is Verdict.DONE:
            self._answer(command, Repeated(command.event.id, command.place), answer)
        return verdict in (Verdict.OK, Verdict.MINE, Verdict.STALE)

    async def _rebase(self, missing: Sequence[Pending], life: Life, answer: Answer) -> None:
        """Read what the marker is to be made of, and then look the own id up again."""
        missing = [p for p in missing if self._guard.holds(p.partition, life)]
        if not missing:
            return
        heads = await self._store.heads([p.event.aggregate_id for p in missing])
        latest = await self._store.find([head.event_id for head in heads.values()])
        found = await self._store.find([p.event.id for p in missing])
        for command in missing:
            if stored := found.get(command.event.id):
                self._repeat(command, stored, answer)
                continue
            head = heads.get(command.event.aggregate_id)
            event = latest[head.event_id] if head else None
            command.basis = Basis(event.type, event.id) if event else Basis("", "")
            command.based_in = life

    # Out, and confirmed

    async def _produce(self, noted: Sequence[tuple[Pending, Marked]], answer: Answer) -> None:
        if not noted:
            return
        try:
            positions = await self._writer.produce([self._record(p, m) for p, m in noted])
        except errors.Unavailable as error:
            for command, marked in noted:
                if marked.verdict is not Verdict.STALE:
                    self._answer(command, Unavailable(str(error)), answer)
            return
        confirmable = []
        for (command, marked), position in zip(noted, positions, strict=True):
            note = Note(command.event.aggregate_id, marked.event_id, marked.prev)
            produced = Produced(note, marked.verdict is not Verdict.STALE, position)
            command.awaiting = produced
            if not marked.tentative:
                confirmable.append(command)
        await self._confirm(confirmable, answer)

    async def _confirm(self, commands: Sequence[Pending], answer: Answer) -> None:
        """Clear the notes. One that is lost waits for append's verdict."""
        notes = [p.awaiting.note for p in commands if p.awaiting]
        if not notes:
            return
        cleared = await self._markers.confirm(notes, await self._guard.life())
        for command, clear in zip(commands, cleared, strict=True):
            if clear:
                self._accept(command, answer)

    async def _settle(self, commands: Sequence[Pending], answer: Answer) -> None:
        """The verdict of append, once it has passed a tentative or lost note: stored or not."""
        passed = [p for p in commands if p.awaiting and self._passed(p.awaiting)]
        if not passed:
            return
        ids = [p.awaiting.note.event_id for p in passed if p.awaiting]
        found = await self._store.find(ids)
        superseded = [p for p in passed if p.awaiting and p.awaiting.note.event_id not in found]
        stored = [p for p in passed if p not in superseded]
        life = await self._guard.life()
        if superseded:
            await self._markers.withdraw([p.awaiting.note for p in superseded if p.awaiting], life)
            for command in superseded:
                command.begin()
        if stored:
            await self._markers.confirm([p.awaiting.note for p in stored if p.awaiting], life)
            for command in stored:
                self._accept(command, answer)

    def _passed(self, produced: Produced) -> bool:
        return self._guard.passed(produced.position.partition, produced.position.offset)

    def _record(self, command: Pending, marked: Marked) -> Outgoing:
        prev = b',"prev":' + orjson.dumps(marked.prev) + b"}"
        key = command.event.aggregate_id.encode()
        topic = Topics.of(command.event.domain).events
        return Outgoing(topic, key, marked.value[:-1] + prev, command.partition, HEADERS)

    # Answers

    def _accept(self, command: Pending, answer: Answer) -> None:
        """A note of one's own is an answer; another's that was finished makes room for it."""
        if command.awaiting and command.awaiting.own:
            self._answer(command, Accepted(command.event.id, command.place), answer)
        command.begin()

    def _repeat(self, command: Pending, stored: EventRecord, answer: Answer) -> None:
        event = command.event
        same = (stored.aggregate_id, stored.type, stored.data)
        if same == (event.aggregate_id, event.type, event.data):
            outcome: Outcome = Repeated(event.id, command.place)
        else:
            outcome = Rejected(f"the command's id was used for another, {stored.type}", "")
        self._answer(command, outcome, answer)

    def _rejection(self, command: Pending, marked: str) -> Rejected:
        allowed = ", ".join(sorted(kind or "no event" for kind in command.allowed or ()))
        reason = f"{command.event.type} may follow {allowed or 'nothing'}"
        return Rejected(f"{reason}, not {marked or 'no event'}", marked)

    def _answer(self, command: Pending, outcome: Outcome, answer: Answer) -> None:
        command.decided = True
        answer(command.index, outcome)
