"""MarkerDecider: decides commands on the marker, the latest event's type of each aggregate.

Takes proposed events. One round looks their ids up in the store, unless they are new, marks them,
produces what was noted and confirms it, each step once for all; one command of an aggregate a
round. What a round leaves undecided (a note of another, a marker to be made anew, a note whose fate
only append knows) goes on in the next, until the deadline. A produce that fails leaves its note
standing: whoever comes next finishes it. The owner of a partition marks as the one that is noted
beside the markers, so nothing is marked for it any more once its successor is noted there.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from eventfleet.deciders.append_watch import AppendWatch, NoWatch
from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.failures import aggregate_parked
from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.outcomes import DEADLINE_PASSED, Repeated, Unavailable
from eventfleet.deciders.pending_command import (
    STALE,
    PendingCommand,
    ProducedNote,
    rejection,
    repeat_outcome,
)
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.stores import errors
from eventfleet.stores.contracts import (
    NO_HEAD,
    Clock,
    DeadLetterStore,
    EventStore,
    Incarnation,
    LogWriter,
    Markers,
    MarkOwner,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.retry import MARKER
from eventfleet.topics.event import EventKey
from eventfleet.topics.parked import WAITING
from eventfleet.topics.partitioner import destination_of

MAX_UNFINISHED = 10_000
OK = MarkStatus.OK
NOTED = (OK, MarkStatus.MINE, STALE)
MISSING, AGAIN = MarkStatus.MISSING, MarkStatus.AGAIN
REJECTED, DONE, LATE = MarkStatus.REJECTED, MarkStatus.DONE, MarkStatus.LATE
DISOWNED = MarkStatus.DISOWNED
NOTHING = StoredHead("", "")
PASSING = ("", WAITING)
"""Why append parks an aggregate: it does so no longer or not quite yet, or is about to go on."""


@dataclass
class MarkerStatistics:
    """Counts of a MarkerDecider so far: rounds and their seconds in all, ids looked up in the
    store, stale notes of others that it has produced, and the results of marking."""

    rounds: int = 0
    seconds: float = 0.0
    lookups: int = 0
    finished: int = 0
    results: Counter[MarkStatus] = field(
        default_factory=lambda: Counter(dict.fromkeys(MarkStatus, 0))
    )


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
        topic: str,
        partitions: int,
        chance: Callable[[], float] = random.random,
        letters: DeadLetterStore,
        watch: AppendWatch | None = None,
    ) -> None:
        """`letters` say why append parks an aggregate; `topic` has the events."""
        self._letters = letters
        self._store, self._markers, self._writer = store, markers, writer
        self._guard, self._clock, self._chance = guard, clock, chance
        self._topic, self._partitions = topic, partitions
        self._watch = watch or NoWatch(clock)
        self._unfinished: dict[EventKey, bool] = {}
        self.statistics = MarkerStatistics()

    # Deciding a batch

    async def decide(
        self,
        commands: Sequence[ProposedEvent],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        """Answer each by its index, as soon as it is decided; Unavailable at the deadline."""
        if permit and not (commands or permit.marks_as):
            await self._note_owner(permit, await self._guard.incarnation())
        try:
            pending = self._first_of_each_aggregate(commands, deadline, answer)
            await self._decide(pending, deadline, permit)
        finally:
            self._watch.forget(proposed.event.id for proposed in commands)

    async def _decide(
        self, pending: list[PendingCommand], deadline: datetime, permit: Permit | None
    ) -> None:
        reason, refreshed = "", False
        while pending and self._clock.steady() < deadline:
            began = self._clock.steady()
            try:
                refreshed, before = await self._round(pending, permit), refreshed
                # A second look in a row: Redis' clock has stepped back, and is awaited.
                first_look = refreshed and not before
                moved = first_look or any(p.decided or p.basis for p in pending)
            except errors.ServerUnavailable as error:
                reason, moved = str(error), False
            self.statistics.rounds += 1
            self.statistics.seconds += (self._clock.steady() - began).total_seconds()
            pending = [p for each in pending if (p := each.next if each.decided else each)]
            if pending and not moved:
                await self._watch.wait(MARKER.pause(1, self._chance))
        while pending:
            for command in pending:
                self._give_up(command, reason or self._cause(command))
            pending = [p for each in pending if (p := each.next)]

    def _cause(self, command: PendingCommand) -> str:
        """Name what the command waited for until its deadline, where that is append."""
        name, partition = command.destination.name, command.destination.partition
        if command.unconfirmed or (not command.basis and self._guard.is_behind(partition)):
            return f"append has not caught up with {name}: is an append worker running?"
        return DEADLINE_PASSED.reason

    def _first_of_each_aggregate(
        self, commands: Sequence[ProposedEvent], deadline: datetime, answer: Answer
    ) -> list[PendingCommand]:
        """The first command of each aggregate, linked to its next ones in their order."""
        firsts: list[PendingCommand] = []
        lasts: dict[str, PendingCommand] = {}
        for index, proposed in enumerate(commands):
            event = proposed.event
            last = lasts.get(event.aggregate_id)
            destination = (
                last.destination
                if last
                else destination_of(self._topic, event.aggregate_id, self._partitions)
            )
            command = PendingCommand(index, proposed, destination, deadline, answer)
            if self._unfinished:
                command.noted_here = self._unfinished.pop(event.key, False)
            lasts[event.aggregate_id] = command
            if last:
                last.next = command
            else:
                firsts.append(command)
        return firsts

    def _give_up(self, command: PendingCommand, reason: str) -> None:
        """Answer Unavailable; a later call that finishes what this one has noted is the first to be
        told that it is accepted."""
        if command.noted_here:
            self._unfinished[command.event.key] = True
            if len(self._unfinished) > MAX_UNFINISHED:
                del self._unfinished[next(iter(self._unfinished))]
        command.answer(Unavailable(reason))

    async def _round(self, pending: Sequence[PendingCommand], permit: Permit | None) -> bool:
        """True when the incarnation was refreshed because a mark asked for it: worth another round
        at once."""
        pending = self._in_time(pending)
        incarnation = await self._guard.incarnation()
        if permit:
            await self._note_owner(permit, incarnation)
        await self._resolve([p for p in pending if p.unconfirmed])
        ready = await self._unstored(self._ready(pending, incarnation))
        ready = await self._refuse_parked(ready) if self._guard.parked else ready
        if not ready:
            return False
        had_basis = any(p.basis for p in ready)
        await self._mark(ready, incarnation, permit.marks_as if permit else None)
        await self._verify_rejections(
            [p for p in ready if p.marked.status is REJECTED and not p.decided], incarnation
        )
        again = any(p.marked.status is AGAIN for p in ready)
        # A marker made here is younger than what was seen: its next command may follow the answer.
        if again or had_basis:
            await self._guard.refresh_incarnation()
        # A note of a former incarnation must not come into the log when this one has forgotten it.
        noted = [p for p in ready if p.marked.status in NOTED]
        await self._produce(self._in_time(noted), incarnation)
        await self._read_basis([p for p in ready if p.marked.status is MISSING], incarnation)
        if permit and any(p.marked.status is DISOWNED for p in ready):
            permit.marks_as = None
            await permit()
        return again

    async def _note_owner(self, permit: Permit, incarnation: Incarnation) -> None:
        """Be noted beside the markers, before anything is decided, and anew when the note is lost.

        The order matters: an owner that may still write after its note was there before its
        successor was, and its successor's note takes its place. The id is new at each note: no mark
        that is still under way becomes good again by it.
        """
        if permit.marks_as:
            return
        owner = MarkOwner(permit.partition, str(UUID(int=random.getrandbits(128))))
        await self._markers.note_owner(owner, incarnation)
        await permit()
        permit.marks_as = owner

    def _in_time(self, pending: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Answer Unavailable to those whose deadline has passed; the others remain."""
        now = self._clock.steady()
        for command in pending:
            if command.deadline <= now:
                self._give_up(command, self._cause(command))
        return [p for p in pending if not p.decided]

    def _ready(
        self, pending: Sequence[PendingCommand], incarnation: Incarnation
    ) -> list[PendingCommand]:
        """Commands that wait for nothing, and whose basis is read or may be."""
        free = [p for p in pending if not (p.unconfirmed or p.decided)]
        trusted = self._trusted_partitions([p for p in free if not p.basis], incarnation)
        return [p for p in free if p.basis or p.destination.partition in trusted]

    def _trusted_partitions(
        self, commands: Sequence[PendingCommand], incarnation: Incarnation
    ) -> set[int]:
        """The partitions of these commands for which the store is known to be up to date."""
        partitions = {p.destination.partition for p in commands}
        return {p for p in partitions if self._guard.is_caught_up(p, incarnation)}

    async def _unstored(self, ready: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Answer the repeats; the others, which the store does not have yet, remain."""
        keys = [p.event.key for p in ready if not (p.basis or p.new)]
        found = await self._store.find(keys) if keys else {}
        self.statistics.lookups += len(keys)
        if not found:
            return ready
        for command in ready:
            if stored := found.get(command.event.key):
                command.answer(repeat_outcome(command.event, stored, command.destination.name))
        return [p for p in ready if not p.decided]

    async def _refuse_parked(self, ready: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Answer Failed where append parks the aggregate, unless the command may be noted;
        Unavailable where it is about to note why, or to handle the events that it parks."""
        for command in ready:
            if command.aggregate_id in self._guard.parked and not command.noted_here:
                why = await self._why_parked(command.aggregate_id)
                if why in PASSING:
                    self._give_up(command, f"append is busy with {command.aggregate_id!r}")
                else:
                    command.answer(aggregate_parked(command.event, why))
        return [p for p in ready if not p.decided]

    async def _why_parked(self, aggregate_id: str) -> str:
        found = await self._letters.find(ParkedQuery("append", aggregate_id), 1)
        return found[0].reason if found else ""

    async def _mark(
        self, ready: Sequence[PendingCommand], incarnation: Incarnation, owner: MarkOwner | None
    ) -> None:
        """Mark them, and answer what is decided by that."""
        marker_time = self._guard.marker_time
        try:
            marks = await self._markers.mark(
                [p.mark_request(incarnation, marker_time(p.deadline), owner) for p in ready]
            )
        except errors.ServerUnavailable:
            for command in ready:
                command.noted_here, command.new = True, False
            raise
        self.statistics.results.update(marked.status for marked in marks)
        for command, marked in zip(ready, marks, strict=True):
            command.marked = marked
            command.new = command.new and marked.status is not OK
            if command.basis:
                command.restart()
            if marked.status is REJECTED and not marked.tentative:
                command.answer(rejection(command.event.type, command.allowed, marked.type))
            elif marked.status is LATE:
                self._give_up(command, DEADLINE_PASSED.reason)
            elif marked.status is OK:
                command.noted_here = True
            elif marked.status is DONE:
                command.answer(Repeated(command.event.id, command.destination.name))

    async def _verify_rejections(
        self, doubtful: Sequence[PendingCommand], incarnation: Incarnation
    ) -> None:
        """Answer those whose marked event is the latest one in the store too.

        An event that was noted in a former incarnation may have come after a marker was made anew;
        such a marker is dropped.
        """
        if not doubtful:
            return
        heads = await self._store.heads([p.aggregate_id for p in doubtful])
        self.statistics.lookups += len(doubtful)
        stale: list[EventKey] = []
        for command in doubtful:
            marked = command.marked
            if heads.get(command.aggregate_id, NO_HEAD).event_id == marked.event_id:
                command.answer(rejection(command.event.type, command.allowed, marked.type))
            else:
                stale.append(EventKey(command.aggregate_id, marked.event_id))
                command.restart()
        if stale:
            await self._markers.drop(stale, incarnation)

    async def _read_basis(
        self, missing: Sequence[PendingCommand], incarnation: Incarnation
    ) -> None:
        """Read what the marker is to be made of, and then look the command's own id up again,
        unless it is new."""
        trusted = self._trusted_partitions(missing, incarnation)
        missing = [p for p in missing if p.destination.partition in trusted]
        if not missing:
            return
        heads = await self._store.heads([p.aggregate_id for p in missing])
        for command in await self._unstored(missing):
            head = heads.get(command.aggregate_id)
            command.basis = StoredHead(head.type, head.event_id) if head else NOTHING
            command.basis_incarnation = incarnation
            if self._guard.is_young(incarnation):
                await self._expect_notice(command)

    async def _expect_notice(self, command: PendingCommand) -> None:
        """Expect append's notice of a command's event, which may be tentative."""
        address = await self._watch.expect(command.event.id)
        if address and command.event.reply_to is None:
            command.notify(address)

    # Produce and confirm

    async def _produce(self, noted: Sequence[PendingCommand], incarnation: Incarnation) -> None:
        """Produce what is noted, and clear the notes. Only append knows of a note that is lost."""
        if not noted:
            return
        try:
            positions = await self._writer.produce([command.record() for command in noted])
        except errors.ServerUnavailable as error:
            for command in noted:
                if command.marked.status is not STALE:
                    self._give_up(command, str(error))
            return
        for command, position in zip(noted, positions, strict=True):
            command.await_confirmation(incarnation, position)
            self.statistics.finished += command.marked.status is STALE
        firm = [command for command in noted if not command.marked.tentative]
        if firm:
            notes = [command.unconfirmed.note for command in firm if command.unconfirmed]
            cleared = await self._markers.confirm(notes, incarnation)
            for command, clear in zip(firm, cleared, strict=True):
                if clear:
                    self._finish(command)

    async def _resolve(self, commands: Sequence[PendingCommand]) -> None:
        """Learn from append, once it has passed a tentative or lost note or sent its notice: stored
        or not."""
        appended = [p for p in commands if p.unconfirmed and self._is_appended(p.unconfirmed)]
        has_noticed = self._watch.has_noticed
        noticed = [
            p for p in commands if p.unconfirmed and has_noticed(p.unconfirmed.note.event_id)
        ]
        if not (appended or noticed):
            return
        settled = [*appended, *(p for p in noticed if p not in appended)]
        found = await self._store.find([note.key for note, _ in produced_notes(settled)])
        stored = [p for p in settled if p.unconfirmed and p.unconfirmed.note.key in found]
        superseded = [p for p in appended if p not in stored]
        for incarnation, notes in notes_by_incarnation(superseded):
            await self._markers.withdraw(notes, incarnation)
        for incarnation, notes in notes_by_incarnation(stored):
            await self._markers.confirm(notes, incarnation)
        for command in superseded:
            command.noted_here = False
            command.restart()
        for command in stored:
            self._finish(command)

    def _is_appended(self, produced: ProducedNote) -> bool:
        return self._guard.has_appended(produced.position.partition, produced.position.offset)

    def _finish(self, command: PendingCommand) -> None:
        """Answer, if the note was the command's own; another's makes room for it now."""
        if command.unconfirmed and command.unconfirmed.outcome:
            command.answer(command.unconfirmed.outcome)
        else:
            command.restart()


def produced_notes(commands: Iterable[PendingCommand]) -> list[tuple[Note, Incarnation]]:
    """The notes that these commands have produced."""
    return [(p.unconfirmed.note, p.unconfirmed.incarnation) for p in commands if p.unconfirmed]


def notes_by_incarnation(
    commands: Iterable[PendingCommand],
) -> list[tuple[Incarnation, list[Note]]]:
    """The notes that these commands have produced, by the incarnation that they were found in."""
    grouped: dict[str, tuple[Incarnation, list[Note]]] = {}
    for note, incarnation in produced_notes(commands):
        grouped.setdefault(incarnation.id, (incarnation, []))[1].append(note)
    return list(grouped.values())
