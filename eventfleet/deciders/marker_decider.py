"""Marking: decides commands on the marker, the latest event's type of each aggregate.

Takes commands as events to be. One round looks their ids up in the store, unless they are new,
marks them, produces what was noted and confirms it, each step once for all; one command of an
aggregate a round. What a round leaves undecided (a note of another, a marker to be made anew, a
note whose fate only append knows) goes on in the next, until the deadline. A produce that fails
leaves its note standing: whoever comes next finishes it.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.outcomes import Repeated, Unavailable
from eventfleet.deciders.pending_command import (
    STALE,
    Answer,
    PendingCommand,
    ProducedNote,
    ProposedEvent,
    destination_of,
    rejection,
    repetition,
)
from eventfleet.stores import errors
from eventfleet.stores.contracts import (
    Clock,
    EventStore,
    Incarnation,
    LogWriter,
    Markers,
    MarkStatus,
    Note,
    StoredHead,
)

PAUSE = 0.05
NOTED = (MarkStatus.OK, MarkStatus.MINE, STALE)
MISSING, AGAIN = MarkStatus.MISSING, MarkStatus.AGAIN
REJECTED, DONE = MarkStatus.REJECTED, MarkStatus.DONE
NOTHING = StoredHead("", "")


@dataclass
class MarkerStatistics:
    """What a Marking has done so far: rounds, their seconds in all, ids looked up in the store,
    and stale notes of others that it has produced."""

    rounds: int = 0
    seconds: float = 0.0
    lookups: int = 0
    finished: int = 0


class MarkerDecider:
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
        self.tally = MarkerStatistics()

    # What it does to some commands

    async def decide(
        self, intents: Sequence[ProposedEvent], deadline: datetime, answer: Answer
    ) -> None:
        """Answer each by its index, as soon as it is decided; Unavailable at the deadline."""
        turn = self._firsts(intents, answer)
        reason = "the deadline has passed"
        while turn and self._clock.now() < deadline:
            began = self._clock.now()
            try:
                looked = await self._round(turn, deadline)
                moved = looked or any(p.decided or p.basis for p in turn)
            except errors.ServerUnavailable as error:
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

    def _firsts(self, intents: Sequence[ProposedEvent], answer: Answer) -> list[PendingCommand]:
        """The first command of each aggregate, the others in their order behind it."""
        firsts: list[PendingCommand] = []
        lasts: dict[str, PendingCommand] = {}
        for index, intent in enumerate(intents):
            event = intent.event
            last = lasts.get(event.aggregate_id)
            to = last.to if last else destination_of(event, self._partitions)
            command = lasts[event.aggregate_id] = PendingCommand(index, intent, to, answer)
            if last:
                last.behind = command
            else:
                firsts.append(command)
        return firsts

    async def _round(self, turn: Sequence[PendingCommand], deadline: datetime) -> bool:
        """Whether it ended with a new look at the time: worth another round at once."""
        incarnation = await self._guard.incarnation()
        await self._settle([p for p in turn if p.awaiting])
        ready = await self._unknown(self._ready(turn, incarnation))
        if not ready:
            return False
        based = any(p.basis for p in ready)
        await self._mark(ready, incarnation)
        # A note of a former life must not come into the log when this one has forgotten it.
        if self._clock.now() < deadline:
            await self._produce([p for p in ready if p.marked.status in NOTED], incarnation)
        await self._rebase([p for p in ready if p.marked.status is MISSING], incarnation)
        again = any(p.marked.status is AGAIN for p in ready)
        # A marker that was made in this round is younger than what was seen before it.
        if again or based:
            await self._guard.look()
        return again

    def _ready(
        self, turn: Sequence[PendingCommand], incarnation: Incarnation
    ) -> list[PendingCommand]:
        """Those that wait for nothing, and whose basis is there or may be read."""
        free = [p for p in turn if not (p.awaiting or p.decided)]
        trusted = self._trusted([p for p in free if not p.basis], incarnation)
        return [p for p in free if p.basis or p.to.partition in trusted]

    def _trusted(self, commands: Sequence[PendingCommand], incarnation: Incarnation) -> set[int]:
        """The partitions of these commands for which the store may be asked."""
        partitions = {p.to.partition for p in commands}
        return {partition for partition in partitions if self._guard.holds(partition, incarnation)}

    async def _unknown(self, ready: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Those that the store does not have yet; the others are repeats."""
        looked = [p.event.id for p in ready if not (p.basis or p.new)]
        found = await self._store.find(looked) if looked else {}
        self.tally.lookups += len(looked)
        if not found:
            return ready
        for command in ready:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.to.name))
        return [p for p in ready if not p.decided]

    async def _mark(self, ready: Sequence[PendingCommand], incarnation: Incarnation) -> None:
        """Mark them, and answer what is decided by that."""
        marks = await self._markers.mark([p.mark(incarnation) for p in ready])
        for command, marked in zip(ready, marks, strict=True):
            command.marked = marked
            if command.basis:
                command.begin()
            if marked.status is REJECTED:
                command.answer(rejection(command))
            elif marked.status is DONE:
                command.answer(Repeated(command.event.id, command.to.name))

    async def _rebase(self, missing: Sequence[PendingCommand], incarnation: Incarnation) -> None:
        """Read what the marker is to be made of, and then look the own id up again."""
        trusted = self._trusted(missing, incarnation)
        missing = [p for p in missing if p.to.partition in trusted]
        if not missing:
            return
        heads = await self._store.heads([p.aggregate_id for p in missing])
        found = await self._store.find([p.event.id for p in missing])
        self.tally.lookups += len(missing)
        for command in missing:
            if stored := found.get(command.event.id):
                command.answer(repetition(command.event, stored, command.to.name))
                continue
            head = heads.get(command.aggregate_id)
            command.basis = StoredHead(head.type, head.event_id) if head else NOTHING
            command.based_in = incarnation

    # Out, and confirmed

    async def _produce(self, noted: Sequence[PendingCommand], incarnation: Incarnation) -> None:
        """Produce what is noted, and clear the notes. Only append knows of one that is lost."""
        if not noted:
            return
        try:
            positions = await self._writer.produce([command.record() for command in noted])
        except errors.ServerUnavailable as error:
            for command in noted:
                if command.marked.status is not STALE:
                    command.answer(Unavailable(str(error)))
            return
        for command, at in zip(noted, positions, strict=True):
            command.produced(incarnation, at)
            self.tally.finished += command.marked.status is STALE
        firm = [command for command in noted if not command.marked.tentative]
        if firm:
            notes = [command.awaiting.note for command in firm if command.awaiting]
            cleared = await self._markers.confirm(notes, incarnation)
            for command, clear in zip(firm, cleared, strict=True):
                if clear:
                    self._finish(command)

    async def _settle(self, commands: Sequence[PendingCommand]) -> None:
        """The verdict of append, once it has passed a tentative or lost note: stored or not."""
        passed = [p for p in commands if p.awaiting and self._passed(p.awaiting)]
        if not passed:
            return
        found = await self._store.find([note.event_id for note, _ in notes_of(passed)])
        stored = [p for p in passed if p.awaiting and p.awaiting.note.event_id in found]
        superseded = [p for p in passed if p not in stored]
        for incarnation, notes in by_life(superseded):
            await self._markers.withdraw(notes, incarnation)
        for incarnation, notes in by_life(stored):
            await self._markers.confirm(notes, incarnation)
        for command in superseded:
            command.begin()
        for command in stored:
            self._finish(command)

    def _passed(self, produced: ProducedNote) -> bool:
        return self._guard.passed(produced.position.partition, produced.position.offset)

    def _finish(self, command: PendingCommand) -> None:
        """A note of one's own is an answer; another's that was finished makes room for it."""
        if command.awaiting and command.awaiting.outcome:
            command.answer(command.awaiting.outcome)
        else:
            command.begin()


def notes_of(commands: Iterable[PendingCommand]) -> list[tuple[Note, Incarnation]]:
    """The notes that these commands have produced."""
    return [(p.awaiting.note, p.awaiting.incarnation) for p in commands if p.awaiting]


def by_life(commands: Iterable[PendingCommand]) -> list[tuple[Incarnation, list[Note]]]:
    """The same, by the life in which they were noted."""
    grouped: dict[str, tuple[Incarnation, list[Note]]] = {}
    for note, incarnation in notes_of(commands):
        grouped.setdefault(incarnation.id, (incarnation, []))[1].append(note)
    return list(grouped.values())
