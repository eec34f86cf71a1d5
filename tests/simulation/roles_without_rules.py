"""The protocols with one rule taken out each."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_plan import AppendItem, Found, Heads, PlacingPlan, Plan, head_of
from eventfleet.roles.append_reader import AppendHeads, AppendReader
from eventfleet.roles.command import CommandRole
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.stores.contracts import AssignPosition, Snapshot
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.snapshot_retention import key_of
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.parked import Discard, ParkedAggregate
from eventfleet.topics.record import LogRecord, ProducerRecord
from tests.simulation.replicated_events import ReplicatedEvents, Writing
from tests.simulation.scheduler import checkpoint
from tests.simulation.world import TOPICS

# Append


class PlacesItsOwnOnly(Plan):
    """Without: one record places all unplaced lower versions first."""

    def _place_upto(self, item: AppendItem, version: int) -> None:
        unplaced = self._unplaced.get(item.event.aggregate_id, [])
        own = [event for event in unplaced if event.id == item.event.id]
        unplaced[:] = [event for event in unplaced if event.id != item.event.id]
        for event in own:
            self._write(AssignPosition(event, item.position))
            self.heads[event.aggregate_id] = head_of(event)


class PlacesWhatIsFound(PlacingPlan):
    """The same, where no plan reads the unplaced."""

    def __init__(self, items: Sequence[AppendItem], heads: Heads, found: Found) -> None:
        before = {
            key: heads[event.aggregate_id]._replace(placed=event.version - 1)
            for key, event in found.items()
        }
        plans = [
            PlacingPlan([item], {item.event.aggregate_id: before[item.event.key]}, found)
            for item in items
            if item.event.key in before
        ]
        self.writes = [write for plan in plans for write in plan.writes]
        self.heads = {key: head for plan in plans for key, head in plan.heads.items()}
        self.suspect = len(self.writes) < len(items)
        self.items = range(len(self.writes))


class MovesItsCacheEarly(AppendRole):
    """Without: the head cache moves only after the write's acknowledgement."""

    async def _write(self, plan: Any, items: Any) -> Any:
        self._heads.__class__ = EarlyHeads
        self._heads.remember(plan.heads)
        return await super()._write(plan, items)


class EarlyHeads(AppendHeads):
    def forget(self, items: Any) -> None:
        """What the plan said stays."""


class KnowsNoRepeats(AppendRole):
    """Without: a repeat is recognised by its event id. Here each offset is another event."""

    def __init__(self, domain: Domain[Any], *about: Any, **named: Any) -> None:
        super().__init__(domain, *about, **named)
        self._reader = RenamingReader(domain)


class RenamingReader(AppendReader):
    def _event(self, record: LogRecord, redriven: bool) -> EventRecord:
        event = super()._event(record, redriven)
        return replace(event, id=f"{event.id}@{record.offset}")


class InsertsSuperseded(Plan):
    """Without: an event that does not follow the latest one is never inserted."""

    def _add_new(self, item: AppendItem) -> None:
        super()._add_new(replace(item, event=replace(item.event, prev=None)))


class EmitsItsOwnOnly(Plan):
    """Without: what a dead owner has stored at these offsets is emitted by its successor."""

    def _add_known(self, item: AppendItem, known: EventRecord) -> None:
        super()._add_known(item, known)
        self.results[-1].emits.clear()


# Transactions


class EmitsThenMoves(MemoryTransactionalWriter):
    """Without: offsets and emitted records in one transaction."""

    async def write(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        await super().write(generation, records)
        self.log.end(self._transaction, commit=True)

    async def move(self, generation: int, next_offset: int) -> None:
        await self.yield_point()
        self.log.check_generation(self.source, generation)
        self.log.offsets[self.source] = next_offset
        await self.yield_point()


class MovesThenEmits(MemoryTransactionalWriter):
    """The same, the other way round."""

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        await super().commit([], next_offset)
        await super().commit(records, next_offset, last)


class ReadsBeforeItFences(MemoryTransactionalWriter):
    """Without: fence first, then read the committed offset, then seek."""

    async def open(self) -> int | None:
        await self.yield_point()
        offset = self.log.offsets.get(self.source)
        await super().open()
        return offset


# Snapshot


class LastWrittenWins(MemorySnapshots):
    """Without: writes are guarded by version."""

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        for shot in snapshots:
            await self._yield_point()
            self._snapshots[shot.aggregate_id] = {key_of(shot): shot}


class FoldsOverGaps(SnapshotRole):
    """Without: a gap is read from the stores."""

    async def _catch_up(self, state: Any, upto: int) -> None:
        state.version = max(state.version, upto)


class FoldsRepeats(SnapshotRole):
    """Without: a repeat is skipped."""

    async def _fold(self, states: Any, read: Any) -> None:
        for key, events in read.left.items():
            state, version = states[key], states[key].version
            for event in events:
                if event.version <= version:
                    again = replace(event, version=version + 1)
                    state.fold(self._domain, again, self._clock.now())
                    state.version = version
        await super()._fold(states, read)


class KeepsLoadedToItself(SnapshotRole):
    """Without: a loaded snapshot at or past the record goes to the topic again."""

    async def _load(self, read: Any) -> Any:
        before = [*read.out]
        states = await super()._load(read)
        read.out[:] = before
        return states


class ProducesUnfenced(MemoryTransactionalWriter):
    """Without: the compacted topic is written through the fenced producer only."""

    async def write(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        for record in records:
            if record.topic == TOPICS.snapshots:
                await self.yield_point()
                self.log.append(record)
        rest = [record for record in records if record.topic != TOPICS.snapshots]
        await super().write(generation, rest)


# Parking


class ParksAfterItsOffset(RelayRole):
    """Without: what is parked is written in one transaction with the offset."""

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        await self._writer.commit(out, next_offset)
        await super()._commit([], next_offset)


class LetsLaterEventsPass(LoggedParking):
    """Without: later events of a parked aggregate are parked behind it."""

    def holds(self, record: LogRecord) -> bool:
        return False


class BeginsWithoutTheList(LoggedParking):
    """Without: an owner reads what is parked before its first chunk."""

    async def open(self) -> None:
        self._parked.load([], [])


class ReadsUncommittedEntries(MemoryReader):
    """Without: of the list only what is committed is read."""

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        for entry in self._log.entries(topic, partition)[start:end]:
            if entry.record:
                yield entry.record


class RedrivesInTwoSteps(RelayRole):
    """Without: what a redrive emits is written in one transaction with the end of the entry."""

    _redrives = False

    async def _redrive(self, *about: Any) -> ChunkReport:
        self._redrives = True
        try:
            return await super()._redrive(*about)
        finally:
            self._redrives = False

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        if self._redrives and out:
            await self._writer.commit(out, next_offset)
            out = []
        await super()._commit(out, next_offset)


class RedoesWithWhatItHasInMemory(RelayRole):
    """Without: what is redone after a refusal begins from what is committed."""

    async def _open_again(self) -> None:
        await self._writer.open()


class DiscardsWhateverIsFirst(LoggedParking):
    """Without: a discard is held to the event that it was asked for."""

    def discard_of(self, parked: ParkedAggregate, request: RedriveRequest) -> Discard | None:
        return request.discard


class DiscardsInTheListOnly(ReplicatedEvents):
    """Without: a discard of what evolve raises on marks the event itself."""

    async def mark_discarded(self, key: EventKey) -> None:
        """Only the dead letter says it."""


class ParksSnapshotsAfterItsOffset(Parking):
    """Without: snapshot notes what it parks before it moves its offset."""

    _redrives = False

    async def requests(self) -> Any:
        found = await super().requests()
        self._redrives = bool(found)
        return found

    async def save(self) -> list[ProducerRecord]:
        return await super().save() if self._redrives else []

    async def release(self) -> None:
        await self._copy()
        await super().release()


class MarksBeforeItLogs(SnapshotRole):
    """Without: a discard is in the log before its event is marked in the store."""

    async def _discard(self, requests: Any, states: Any, report: ChunkReport) -> None:
        for parked, request in requests:
            early = states[parked.aggregate_id].version < parked.first
            if early and self._parking.discard_of(parked, request):
                key = EventKey(parked.aggregate_id, parked.event_id)
                await self._stores.events.mark_discarded(key)
        await super()._discard(requests, states, report)


class KeepsParkedInTheStore(Parking):
    """Without: what snapshot parks and discards is in the log too."""

    async def save(self) -> list[ProducerRecord]:
        await super().save()
        return []


# The store of several servers


class AcknowledgesAlone(ReplicatedEvents):
    """Without: a write is acknowledged when a majority has it."""

    async def _acknowledge(self, writing: Writing) -> None:
        await checkpoint()
        self._replicate(self._keep_up(writing.touched))


class AcknowledgesByOneShard(ReplicatedEvents):
    """Without: a write of several shards is acknowledged when each has it on a majority."""

    async def _acknowledge(self, writing: Writing) -> None:
        await checkpoint()
        self._check(writing, writing.touched)
        if done := self._keep_up(writing.touched):
            self._replicate(done)
        else:
            await super()._acknowledge(writing)


class ShowsThePrimary(ReplicatedEvents):
    """Without: reads show what a majority has."""

    def __getattr__(self, read: str) -> Any:
        return getattr(self._primary, read)


class TakesTheDuplicateFirst(ReplicatedEvents):
    """Without: of two errors in a reply that of the write concern comes first."""

    def _both(self, clash: Duplicate, unsafe: ServerUnavailable) -> Exception:
        return clash


class IsNotedAfterItsFence(CommandRole):
    """Without: the one who decides a partition's commands is noted before its fence."""

    async def open(self) -> int:
        offset, start = await self._start.take_over(self._writer), self._start
        self._start = TakenOver(offset)  # type: ignore[assignment]
        try:
            return await super().open()
        finally:
            self._start = start


class TakenOver:
    """The start of a role that has its offset already."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    async def take_over(self, writer: object) -> int:
        return self._offset
