"""Append: the one sequencer of a partition of `<domain>.events`.

Takes a chunk of records; gives each event its version and position in one ordered write; then
emits what was placed to `<domain>.stored` and moves the offset, in one transaction. A clash with
another writer is explained by reading again, and the rest of the chunk is planned anew.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append_plan import FastPlan, Heads, Item, Plan, distinct_of
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.role import ChunkReport, PoisonEvent
from eventfleet.roles.sweep import Sweep
from eventfleet.roles.takeover import take_over
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import (
    NO_HEAD,
    Clock,
    EventStore,
    Head,
    ParkedAggregates,
    PartitionWriter,
    Stage,
)
from eventfleet.stores.errors import Duplicate, Misconfigured, ServerUnavailable
from eventfleet.topics.codec import EVENT_HEADERS, decode, encode
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord

ROLE = "append"
EXPLANATIONS = 10


# What it takes


class AppendRole:
    """The append role of one partition of one domain.

    `puts`: whether synchronous puts happen in this domain, `puts_only`: and nothing else; `sweep`
    brings those back that nobody published. `marked`: whether it has after-rules, so that every
    record must say which event it follows (`prev`).
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        store: EventStore,
        writer: PartitionWriter,
        parked: ParkedAggregates,
        clock: Clock,
        *,
        cached: int,
        notifier: StageNotifier = NULL_NOTIFIER,
        puts: bool = False,
        puts_only: bool = False,
        sweep: Sweep | None = None,
        marked: bool = False,
    ) -> None:
        self._domain, self._partition, self._store = domain, partition, store
        self._writer, self._parked, self._clock = writer, parked, clock
        self._puts, self._puts_only = puts, puts_only
        self._sweep, self._marked = sweep, marked
        self._notifier = notifier
        self._heads: LruCache[Head] = LruCache(cached)
        self._stored = Topics.of(domain.name).stored
        self._epoch = 0
        self._fresh = True  # nothing was taken since the last take-over

    async def open(self) -> int:
        """Take the partition over. Misconfigured when the offsets do not fit the store.

        Owners commit an offset before they store anything. So where events were placed before the
        take-over, there is an offset after it, also when the last owner died in its first chunk.
        """
        self._heads.clear()
        self._fresh = True
        self._epoch = await self._store.epoch()
        placed = await self._store.has_placed(self._partition, self._epoch)
        offset = await take_over(self._writer, self._parked, self._partition)
        if offset is None:
            if placed:
                raise self._without_offset()
            await self._writer.commit([], 0)
        return offset or 0

    def _without_offset(self) -> Misconfigured:
        return Misconfigured(
            f"{self._domain.name}: events of partition {self._partition} are stored in epoch "
            f"{self._epoch}, but the consumer group has no offset: was the group or the topic "
            "made anew? Restore the offset, or if the topic is new raise the epoch: "
            f"eventfleet topics raise-epoch {self._domain.name}"
        )

    # What it does to one chunk

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report, letters, read = self._read(records)
        items = distinct_of(read)
        report.repeated = len(read) - len(items)
        if self._fresh:
            await self._check_epoch(items)
        emits = await self._store_all(items, letters, report)
        if self._puts:
            emits = await self._store.placed_at([item.position for item in items])
        out = self._emissions(emits)
        report.emitted = len(out)
        await self._writer.commit(out + letters, next_offset)
        self._heads.trim()
        self._fresh = False
        if awaited := [item.event for item in read if item.event.reply_to]:
            await self._tell(awaited, emits)
        return report

    async def tick(self) -> ChunkReport:
        return await self._sweep.tick() if self._sweep else ChunkReport()

    async def close(self) -> None:
        await self._writer.close()

    def _read(
        self, records: Sequence[LogRecord]
    ) -> tuple[ChunkReport, list[ProducerRecord], list[Item]]:
        """The readable records."""
        report = ChunkReport()
        letters: list[ProducerRecord] = []
        items: list[Item] = []
        for record in records:
            try:
                items.append(Item(record, self._event(record), self._epoch))
            except InvalidRecord as error:
                letters.append(self._letter(record, UNREADABLE, str(error)))
                report.dead_letters += 1
        return report, letters, items

    def _event(self, record: LogRecord) -> EventRecord:
        event = decode(record.value, self._domain.always_storable)
        if record.key != event.aggregate_id.encode():
            raise InvalidRecord("key", f"is {record.key!r}, not the subject {event.aggregate_id!r}")
        if self._marked and event.prev is None:
            raise InvalidRecord("prev", "is missing; events of this domain are made by commands")
        try:
            self._domain.check(event)
        except InvalidRecord:
            raise
        except Exception as error:
            raise PoisonEvent(ROLE, self._domain.name, event, record.offset, error) from error
        return event

    async def _store_all(
        self, items: Sequence[Item], letters: list[ProducerRecord], report: ChunkReport
    ) -> list[EventRecord]:
        """Write until every item is dealt with; the events to emit, in (offset, version) order."""
        emits: list[EventRecord] = []
        found: dict[str, EventRecord] = {}
        while items:
            plan = await self._planned(items, found)
            done, clash = await self._write(plan, items)
            emits += plan.told(done, letters, report)
            items = items[done:]
            if clash:
                found = await self._explain(clash, items)
        return emits

    async def _planned(
        self, items: Sequence[Item], found: dict[str, EventRecord]
    ) -> Plan | FastPlan:
        """Looks up those stored already, which `found` then has, unless all are plain new events.

        It is done for all or for none, and after the heads: another owner may be ahead of us, and
        only what is absent then can be judged by the latest event that is there.
        """
        heads = await self._heads_of(items)
        plain = FastPlan(items, heads)
        if plain.suspect or self._puts_only:
            unknown = [i.event.id for i in items if i.event.id not in found]
            found |= await self._store.find(unknown)
        elif not found and not self._puts:
            return plain
        waiting = await self._unplaced(items, heads, found)
        return Plan(items, heads, found, waiting, self._letter, puts_only=self._puts_only)

    async def _heads_of(self, items: Sequence[Item]) -> Heads:
        """The heads of the aggregates at hand; those that were not in memory are from now on."""
        touched = {item.event.aggregate_id for item in items}
        heads = self._heads.found(touched)
        if misses := touched - heads.keys():
            loaded = dict.fromkeys(misses, NO_HEAD) | await self._store.heads(misses)
            self._heads.put_all(loaded)
            heads |= loaded
        return heads

    async def _unplaced(
        self, items: Sequence[Item], heads: Heads, found: dict[str, EventRecord]
    ) -> dict[str, list[EventRecord]]:
        """The unplaced events of the aggregates at hand, lowest version first."""
        if not self._puts:
            return {}
        suspects = {event.aggregate_id for event in found.values() if event.position is None}
        for item in items:
            head = heads[item.event.aggregate_id]
            if head.placed < head.version:
                suspects.add(item.event.aggregate_id)
        waiting: dict[str, list[EventRecord]] = {}
        if suspects:
            for event in await self._store.unplaced(suspects):
                waiting.setdefault(event.aggregate_id, []).append(event)
        return waiting

    # The write, and a clash

    async def _write(
        self, plan: Plan | FastPlan, items: Sequence[Item]
    ) -> tuple[int, Duplicate | None]:
        """How many items are done, and what stopped it, if anything did."""
        try:
            await self._store.write(plan.writes)
        except Duplicate as clash:
            self._forget(items)
            return plan.items[clash.index], clash
        except BaseException:
            self._forget(items)
            raise
        self._remember(plan)
        return len(items), None

    def _remember(self, plan: Plan | FastPlan) -> None:
        self._heads.put_all(plan.heads)

    def _forget(self, items: Sequence[Item]) -> None:
        self._heads.drop(item.event.aggregate_id for item in items)

    async def _explain(self, clash: Duplicate, items: Sequence[Item]) -> dict[str, EventRecord]:
        """Read again until something explains the clash; the remaining items that are stored."""
        item = items[0]
        for attempt in range(EXPLANATIONS):
            await self._check_epoch([item])
            if await self._store.find([item.event.id]):
                return await self._store.find([item.event.id for item in items])
            heads = await self._store.heads([item.event.aggregate_id])
            if heads.get(item.event.aggregate_id, NO_HEAD).version >= clash.version:
                return {}
            await self._clock.sleep(0.02 * 2**attempt)
        raise ServerUnavailable(f"{clash}, but nothing that was read explains it")

    async def _check_epoch(self, items: Sequence[Item]) -> None:
        """Misconfigured when other events are placed at these positions.

        Beside a record's own event only lower versions, put before it, can be.
        """
        at = {str(item.position): item for item in items}
        for holder in await self._store.placed_at([item.position for item in items]):
            item = at[holder.position or ""]
            below = self._puts and holder.aggregate_id == item.event.aggregate_id
            if holder.id != item.event.id and not below:
                raise self._wrong_epoch(item, holder)

    def _wrong_epoch(self, item: Item, holder: EventRecord) -> Misconfigured:
        return Misconfigured(
            f"{self._domain.name}: position {item.position} of event {item.event.id} is held by "
            f"event {holder.id}: {self._domain.name}.events was made anew; "
            f"raise the epoch: eventfleet topics raise-epoch {self._domain.name}"
        )

    # What follows, and what does not

    def _emissions(self, events: Sequence[EventRecord]) -> list[ProducerRecord]:
        stored, partition = self._stored, self._partition
        return [
            ProducerRecord(
                stored, event.aggregate_id.encode(), encode(event), partition, EVENT_HEADERS
            )
            for event in events
        ]

    async def _tell(self, awaited: Sequence[EventRecord], emits: Sequence[EventRecord]) -> None:
        """Those that are stored: just now, or before, of which these are repeats."""
        stored = {event.id for event in emits}
        if others := {event.id for event in awaited} - stored:
            with suppress(ServerUnavailable):
                stored.update(await self._store.find(others))
        self._notifier.notify(Stage.APPENDED, [event for event in awaited if event.id in stored])

    def _letter(self, record: LogRecord, kind: str, reason: str) -> ProducerRecord:
        return make_dead_letter(self._domain.name, ROLE, record, kind, reason)
