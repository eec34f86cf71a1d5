"""Append: the one sequencer of a partition of `<domain>.events`.

Takes a chunk of records; gives each event its version and position in one ordered write; then
emits the placed events to `<domain>.stored` and moves the offset, in one transaction. After a clash
with another writer it reads again, and plans the rest of the chunk anew.

An event that the domain as declared here does not read, though a command made it, or on which an
upcaster raises, parks its aggregate.
"""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append_notices import AppendNotices, with_addresses
from eventfleet.roles.append_parking import ROLE, AppendParking
from eventfleet.roles.append_plan import (
    AnyPlan,
    AppendItem,
    AppendResult,
    FastPlan,
    Found,
    Heads,
    PlacingPlan,
    Plan,
    Unplaced,
    before_next_decision,
    distinct,
)
from eventfleet.roles.append_reader import AppendHeads, AppendReader
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.offset_faults import AppendOffset
from eventfleet.roles.registry_copy import RegistryCopy
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.sweep import Sweep
from eventfleet.roles.takeover import take_over
from eventfleet.stores.contracts import (
    NO_HEAD,
    Clock,
    EventStore,
    PartitionWriter,
    VersionRange,
)
from eventfleet.stores.errors import DoubtfulOffset, Duplicate, Misconfigured, ServerUnavailable
from eventfleet.stores.retry import CLASH
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.dead_letters import PARKED, make_dead_letter
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord

# What it takes


class AppendRole:
    """The append role of one partition of one domain.

    `cached` heads are kept in memory. `sweep` publishes a synchronous domain's unplaced events.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        store: EventStore,
        writer: PartitionWriter,
        clock: Clock,
        parking: AppendParking,
        *,
        cached: int,
        notifier: StageNotifier = NULL_NOTIFIER,
        sweep: Sweep | None = None,
    ) -> None:
        self._domain, self._partition, self._store = domain, partition, store
        self._writer, self._clock, self._parking = writer, clock, parking
        self._sweep = sweep
        self._notices = AppendNotices(notifier, store, parking, synchronous=domain.synchronous)
        self._synchronous = domain.synchronous
        self._reader = AppendReader(domain)
        self._heads = AppendHeads(domain.name, store, cached)
        self._stored = domain.topics.stored
        self._copy = RegistryCopy(domain.topics.parked, partition, store.registry, clock)
        self._next_offset = 0
        self._first_chunk = True  # since the take-over

    async def open(self) -> int:
        """Take the partition over. DoubtfulOffset where the offset does not fit the store."""
        self._heads.clear()
        self._first_chunk = True
        self._copy.open()
        registry = self._store.registry
        epoch = self._reader.epoch = await registry.epoch()
        noted = await registry.next_offset(self._partition)
        judge = AppendOffset(self._domain, self._partition, epoch)
        if fault := judge.of_a_later_epoch(await self._store.newest_epoch()):
            raise Misconfigured(fault)
        offset = await take_over(self._writer, judge.repair)
        if offset is None:
            if fault := judge.missing(noted):
                raise DoubtfulOffset(fault)
            await self._writer.commit([], 0)
        elif offset > noted:
            noted = await registry.next_offset(self._partition)
            before = await registry.last_note(self._partition)
            if fault := judge.ahead(offset, noted, before):
                raise DoubtfulOffset(fault)
        self._next_offset = offset or 0
        await self._parking.open()
        return self._next_offset

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        unreadable: list[tuple[LogRecord, str]] = []
        read, dead_letters = self._reader.read(records, unreadable)
        items = distinct(read)
        report = ChunkReport(repeated=len(read) - len(items), dead_letters=len(dead_letters))
        if self._first_chunk:
            await self._check_epoch(items)
        result = AppendResult(dead_letters=dead_letters, report=report)
        await self._store_all(items, result)
        awaited = [item.event for item in read if item.event.reply_to]
        placed_here = [event for event in result.emits if event.reply_to]
        if self._synchronous:
            result.emits = await self._store.placed_at([item.position for item in items])
        emits = with_addresses(result.emits, [*placed_here, *awaited])
        await self._store.registry.note_next_offset(
            self._partition, self._reader.epoch, next_offset
        )
        emitted = self._encode(emits, items)
        report.emitted = len(emitted)
        last = await self._parking.save()
        await self._writer.commit(emitted + result.dead_letters, next_offset, last=last)
        await self._parking.release()
        self._heads.trim()
        self._next_offset = next_offset
        self._first_chunk = False
        if awaited:
            await self._notices.notify(awaited, result.emits)
        for record, reason in unreadable:
            self._notices.notify_unreadable(record, reason)
        return report

    async def tick(self) -> ChunkReport:
        if facts := await self._copy.read():
            await self._writer.commit([self._copy.record(facts)], self._next_offset)
            self._copy.note_written(facts)
        if self._sweep:
            return await self._sweep.tick(self._next_offset)
        return await self._parking.redrive(self._next_offset)

    @property
    def at_rest(self) -> bool:
        return not self._parking.aggregates and (self._sweep is None or self._sweep.at_rest)

    async def close(self) -> None:
        await self._writer.close()

    async def _store_all(self, items: Sequence[AppendItem], result: AppendResult) -> None:
        """Write until every item is done; the events to emit come in (offset, version) order."""
        found: Found = {}
        while items:
            part = before_next_decision(items)
            plan = await self._plan(part, found)
            done, clash = await self._write(plan, part)
            plan.apply(done, result)
            self._note_parked(result)
            if result.decided:
                await self._learn_decisions(result)
                found = {}
            items = items[done:]
            if clash:
                found = await self._explain(clash, items)

    async def _plan(self, items: Sequence[AppendItem], found: Found) -> AnyPlan:
        """Plan the writes; `found` gets the stored events, unless all items are surely new.

        The look-up is for all items or none, and comes after the heads: another owner may be ahead
        of us, and only an event absent then can be judged by the aggregate's latest one.
        """
        heads = await self._heads.of(items)
        if self._synchronous:
            found |= await self._find(items, found)
            placing = PlacingPlan(items, heads, found)
            if not placing.suspect:
                return placing
            unplaced = await self._unplaced(heads, found)
            return Plan(items, heads, found, unplaced, self._dead_letter, stored_only=True)
        fast = FastPlan(items, heads)
        if fast.suspect:
            found |= await self._find(items, found)
        elif not found:
            return fast
        return Plan(items, heads, found, {}, self._dead_letter)

    async def _find(self, items: Sequence[AppendItem], found: Found) -> Found:
        return await self._store.find([i.event.key for i in items if i.event.key not in found])

    async def _unplaced(self, heads: Heads, found: Found) -> Unplaced:
        """The unplaced events up to those found, of each aggregate the lowest version first."""
        needed: dict[str, VersionRange] = {}
        for (aggregate_id, _), event in found.items():
            if event.position is None:
                placed = min(heads[aggregate_id].placed, event.version - 1)
                _, after, up_to = needed.get(aggregate_id, (aggregate_id, placed, 0))
                needed[aggregate_id] = VersionRange(
                    aggregate_id, min(after, placed), max(up_to, event.version)
                )
        unplaced: dict[str, list[EventRecord]] = {}
        if needed:
            for event in await self._store.unplaced(needed.values()):
                unplaced.setdefault(event.aggregate_id, []).append(event)
        return unplaced

    async def _write(
        self, plan: AnyPlan, items: Sequence[AppendItem]
    ) -> tuple[int, Duplicate | None]:
        """Do the plan's writes. Returns how many items are done, and the clash that ended it."""
        try:
            await self._store.write(plan.writes)
        except Duplicate as clash:
            self._heads.forget(items)
            return plan.items[clash.index], clash
        except BaseException:
            self._heads.forget(items)
            raise
        self._heads.remember(plan.heads)
        return len(items), None

    def _encode(
        self, events: Sequence[EventRecord], items: Sequence[AppendItem]
    ) -> list[ProducerRecord]:
        """The records of the events, each with the timestamp of the record that it came in."""
        stored, partition = self._stored, self._partition
        timestamps = self._timestamps(events, items)
        return [
            ProducerRecord(
                stored,
                event.aggregate_id.encode(),
                encode(event),
                partition,
                EVENT_HEADERS,
                timestamp or None,
            )
            for event, timestamp in zip(events, timestamps, strict=True)
        ]

    def _timestamps(
        self, events: Sequence[EventRecord], items: Sequence[AppendItem]
    ) -> Sequence[int]:
        """The timestamps of the items that placed these events.

        An asynchronous domain's item emits one event at most, in order: of as many events as items
        each has its own. Others are found by their position.
        """
        if len(events) == len(items) and not self._synchronous:
            return [item.record.timestamp for item in items]
        by_position = {str(item.position): item.record.timestamp for item in items}
        return [by_position.get(event.position or "", 0) for event in events]

    # What is parked

    def _note_parked(self, result: AppendResult) -> None:
        """Note what is parked; of an aggregate the first event becomes a dead letter."""
        parking = self._parking
        for item in result.parked:
            is_first = item.event.aggregate_id not in parking.aggregates
            parking.add(item)
            if is_first and item.fault:
                parked = parking.aggregates[item.event.aggregate_id]
                what = PARKED, parked.reason, parked.details
                letter = make_dead_letter(
                    self._domain.topics.dead_letters, ROLE, item.record, *what
                )
                result.dead_letters.append(letter)
            result.report.parked += 1
        result.parked.clear()

    async def _learn_decisions(self, result: AppendResult) -> None:
        """Read what became of the redriven events: an earlier owner may have decided otherwise."""
        decided = list(result.decided)
        result.decided.clear()
        found = await self._store.find([item.event.key for item in decided])
        self._heads.forget(decided)
        heads = await self._heads.of(decided)
        for item in decided:
            event, head = found[item.event.key], heads[item.event.aggregate_id]
            if event.position is None:
                if event.version == head.placed + 1:
                    self._parking.park_first(event, item.fault)
                continue
            self._parking.place(event, head)
            if event.position == str(item.position):
                result.emits.append(event)
                result.report.redriven += not event.discarded
                result.report.discarded += event.discarded
        result.emits.sort(key=lambda event: Position.parse(event.position or ""))

    # What it does when that fails

    async def _explain(self, clash: Duplicate, items: Sequence[AppendItem]) -> Found:
        """Read until something explains the clash; returns the stored events of these items."""
        event = items[0].event
        for attempt in range(1, CLASH.attempts + 1):
            await self._check_epoch([items[0]])
            if await self._store.find([event.key]):
                return await self._store.find([item.event.key for item in items])
            heads = await self._store.heads([event.aggregate_id])
            if heads.get(event.aggregate_id, NO_HEAD).version >= clash.version:
                return {}
            await self._clock.sleep(CLASH.pause(attempt))
        raise ServerUnavailable(f"{clash}, but nothing that was read explains it")

    async def _check_epoch(self, items: Sequence[AppendItem]) -> None:
        """Misconfigured when other events are placed at these positions.

        Only lower versions of the same aggregate, put before it, may share an event's position.
        """
        by_position = {str(item.position): item for item in items}
        for holder in await self._store.placed_at([item.position for item in items]):
            item = by_position[holder.position or ""]
            placed_along = self._synchronous and holder.aggregate_id == item.event.aggregate_id
            if holder.id != item.event.id and not placed_along:
                raise self._position_taken(item, holder)

    def _position_taken(self, item: AppendItem, holder: EventRecord) -> Misconfigured:
        return Misconfigured(
            f"{self._domain.name}: position {item.position} of event {item.event.id} is held by "
            f"event {holder.id}: {self._domain.name}.events was made anew; "
            f"raise the epoch: eventfleet topics raise-epoch {self._domain.name}"
        )

    def _dead_letter(self, record: LogRecord, kind: str, reason: str) -> ProducerRecord:
        return make_dead_letter(self._domain.topics.dead_letters, ROLE, record, kind, reason)
