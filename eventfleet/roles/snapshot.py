"""Snapshot: keeps snapshots of each aggregate of a partition, as its domain's rule says.

Takes a chunk of `<domain>.stored`; folds it into live states; saves the snapshots that are due in
one bulk, then writes them to the compacted topic together with the offset. A repeat is skipped; a
gap, or an aggregate not in memory, is read from the stores. An event that evolve, an upcaster or
the rule raises on parks its aggregate; a redrive loads its state anew.

An event is folded as soon as it is read and not kept: while it is near in memory, its fold and its
end cost half as much as after the whole chunk was read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import make_typed_decoder
from eventfleet.roles.aged_states import AgedStates
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier, notify_parked
from eventfleet.roles.parking import Parking
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.snapshot_maker import SnapshotMaker
from eventfleet.roles.takeover import RoleStart
from eventfleet.states.live_state import LiveState, ReplayFailed, load_live_states
from eventfleet.states.lru_cache import LruCache, cache_statistics
from eventfleet.stores.contracts import (
    NO_HEAD,
    Clock,
    DomainStores,
    PartitionWriter,
    Snapshot,
    Stage,
)
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventKey, FoldableEvent
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.record import LogRecord, ProducerRecord

ROLE = "snapshot"
MAX_REDRIVES = 50
"""Aggregates that are redriven together; time is looked at after that."""


# What it takes


@dataclass(slots=True)
class ReadChunk:
    """The records of a chunk, read: dead letters, events folded already, events left to fold.

    `folded`: the aggregates of events folded into cached states. `left`: by aggregate, the events
    that need the stores, or are repeats.
    """

    report: ChunkReport = field(default_factory=ChunkReport)
    out: list[ProducerRecord] = field(default_factory=list)
    folded: dict[str, None] = field(default_factory=dict)
    left: dict[str, list[FoldableEvent]] = field(default_factory=dict)
    awaited: list[FoldableEvent] = field(default_factory=list)


class SnapshotRole:
    """The snapshot role of one partition of one domain.

    `cached` live states are kept in memory; a state of more than `limit` bytes is not saved.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        stores: DomainStores,
        writer: PartitionWriter,
        parking: Parking,
        clock: Clock,
        *,
        cached: int,
        limit: int,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self._domain, self._stores = domain, stores
        self._writer, self._parking, self._clock = writer, parking, clock
        self._start = RoleStart(stores.events.registry, domain.name, ROLE, partition)
        self._notifier = notifier
        self._states: LruCache[LiveState] = LruCache(cached)
        self._cache_statistics = cache_statistics(domain.name, ROLE, "states")
        self._decode = make_typed_decoder(domain)
        self._next_offset = 0
        self._maker = SnapshotMaker(domain, partition, clock, limit)
        self._aged = AgedStates(domain, partition, stores, parking, clock, self._states)

    async def open(self) -> int:
        """Take the partition over."""
        self._states.clear()
        self._aged.clear()
        self._next_offset = await self._start.take_over(self._writer)
        await self._parking.open()
        return self._next_offset

    def _read(self, records: Sequence[LogRecord], read: ReadChunk) -> None:
        """Read the records, and fold each event that comes next after a cached state."""
        # Locals spare this loop, which runs for each event, the look-ups of attributes.
        decode, cached, domain, now = (
            self._decode,
            self._states.peek,
            self._domain,
            self._clock.now(),
        )
        folded, left, parked = read.folded, read.left, self._parking.aggregates
        discards = self._parking.discards
        for record in records:
            try:
                event = decode(record.value)
            except InvalidRecord as error:
                read.out.append(self._dead_letter(record, error))
                read.report.dead_letters += 1
                continue
            key = event.aggregate_id
            if parked and key in parked:
                read.report.parked += 1
                if event.reply_to:
                    read.awaited.append(event)
                continue
            state = cached(key)
            if discards and (key, event.version) in discards:
                state = None  # `_fold` reads it as the store has it
            try:
                if state is not None and event.version == state.version + 1:
                    state.fold(domain, event, now)
                    folded[key] = None
                else:
                    left.setdefault(key, []).append(event)
            except ReplayFailed:  # `_fold` tries again, and parks
                left.setdefault(key, []).append(event)
            if event.reply_to:
                read.awaited.append(event)

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        read = ReadChunk()
        self._read(records, read)
        states = await self._load(read)
        await self._fold(states, read)
        read.out += self._parking.dead_letters(records)
        await self._save(states, read.out, next_offset, read.report)
        if read.awaited:
            self._notify(read.awaited)
        return read.report

    def _notify(self, awaited: Sequence[FoldableEvent]) -> None:
        aggregates = self._parking.aggregates
        waiting = [each for each in awaited if self._is_parked(each)]
        folded = [each for each in awaited if not self._is_parked(each)]
        if folded:
            self._notifier.notify(Stage.SNAPSHOTTED, folded)
        reasons = [(each, aggregates[each.aggregate_id].reason) for each in waiting]
        notify_parked(self._notifier, Stage.SNAPSHOTTED, ROLE, reasons)

    def _park(self, error: ReplayFailed, report: ChunkReport) -> None:
        self._parking.park(error.event, error.cause)
        report.parked += 1

    def _is_parked(self, event: FoldableEvent) -> bool:
        parked = self._parking.aggregates.get(event.aggregate_id)
        return parked is not None and parked.first <= event.version

    async def tick(self) -> ChunkReport:
        """Save snapshots that only the passing of time makes due: a bounded number in each call.

        Before that, do what operators ask for of parked aggregates.
        """
        report = ChunkReport()
        requests = await self._parking.requests()
        for start in range(0, len(requests), MAX_REDRIVES):
            if start and self._parking.out_of_time:
                break
            await self._redrive(requests[start : start + MAX_REDRIVES], report)
        if self._aged.are_timed:
            states = {each.aggregate_id: each for each in self._aged.cached()}
            for state, version in await self._aged.behind():
                states[state.aggregate_id] = state
                try:
                    await self._catch_up(state, version)
                except ReplayFailed as error:
                    self._park(error, report)
            await self._save(states, [], self._next_offset, report)
        return report

    @property
    def at_rest(self) -> bool:
        return not self._parking.aggregates

    async def close(self) -> None:
        await self._writer.close()

    async def _load(self, read: ReadChunk) -> dict[str, LiveState]:
        """The states of the chunk's aggregates; those not cached, up to their first event left.

        A snapshot that is at or past that event was saved by another owner, which may have died
        before it wrote the snapshot to the topic: the topic gets it again.
        """
        left = read.left
        states = self._states.get_all(chain(read.folded, left))
        missing = [key for key in left if key not in states]
        self._cache_statistics.add(len(states), len(missing))
        if missing:
            loaded = await load_live_states(self._domain, self._stores, missing)
            for key, state in loaded.items():
                first = left[key][0].version
                read.out += self._maker.again(state, first)
                try:
                    await self._catch_up(state, first - 1)
                except ReplayFailed as error:
                    self._park(error, read.report)
                    del left[key]
                states[key] = state
        return states

    async def _fold(self, states: Mapping[str, LiveState], read: ReadChunk) -> None:
        """Fold the events left; a repeat is skipped, a gap before an event is read first."""
        domain, now, discards = self._domain, self._clock.now(), self._parking.discards
        for key, events in read.left.items():
            state = states[key]
            for event in events:
                if event.version <= state.version:
                    read.report.repeated += 1
                    continue
                # No call for the event that is next: after a start that is each of a chunk.
                try:
                    discarded = discards and (key, event.version) in discards
                    if not discarded and event.version == state.version + 1:
                        state.fold(domain, event, now)
                        continue
                    # What is missing, and the event as the store has it.
                    await self._catch_up(state, event.version)
                except ReplayFailed as error:
                    self._park(error, read.report)
                    break

    async def _catch_up(self, state: LiveState, upto: int) -> None:
        """Fold stored events up to a version. ReplayFailed; ServerUnavailable when one is not
        stored yet."""
        if state.version < upto:
            async for event in self._stores.events.read(state.aggregate_id, state.version, upto):
                state.fold(self._domain, event)
        if state.version < upto:
            missing = f"{self._domain.name} {state.aggregate_id!r} version {state.version + 1}"
            raise ServerUnavailable(f"{missing} is not in the event store yet")

    # The snapshots that are due

    async def _save(
        self,
        states: Mapping[str, LiveState],
        out: list[ProducerRecord],
        next_offset: int,
        report: ChunkReport,
    ) -> None:
        """Save to the store and, with the offset, to the topic; and only then in memory.

        The store is first where the offset moves: if the commit is not done, the chunk comes again,
        and with it what the store has. Nothing comes again where it stays: the topic is first.
        """
        now = self._clock.now()
        due = self._due(states.values(), now, report)
        snapshots: list[Snapshot] = []
        for state in due:
            if snapshot := self._maker.make(state, now):
                snapshots.append(snapshot)
                report.rules[self._maker.cause(state, now)] += 1
        moves = next_offset != self._next_offset
        if snapshots and moves:
            await self._stores.snapshots.save(snapshots)
        out = out + [self._maker.record(snapshot) for snapshot in snapshots]
        last = await self._parking.save()
        if out or last or moves:
            await self._writer.commit(out, next_offset, last=last)
        if snapshots and not moves:
            await self._stores.snapshots.save(snapshots)
        self._next_offset = next_offset
        await self._parking.release()
        report.snapshots += len(snapshots)
        report.too_large += len(due) - len(snapshots)
        report.emitted += len(snapshots)
        for state in due:
            state.record_snapshot(now)
        self._keep(states)

    def _due(
        self, states: Iterable[LiveState], now: datetime, report: ChunkReport
    ) -> list[LiveState]:
        """The states of which a snapshot is due; where the rule raises, the aggregate is parked."""
        rule = self._domain.snapshot
        if rule is None:
            return []
        # `min_events` alone drops most states, before a SinceSnapshot is built for the others.
        least = rule.min_events
        due = []
        for state in [s for s in states if s.version - s.snapshot_version >= least]:
            try:
                if rule.due(state.since_snapshot(now)):
                    due.append(state)
            except Exception as error:
                if state.aggregate_id not in self._parking.aggregates:
                    self._parking.park_at(state.aggregate_id, state.version, error)
                    report.parked += 1
        return due

    def _keep(self, states: Mapping[str, LiveState]) -> None:
        """Put the states into the cache; drop those used longest ago, beyond its capacity."""
        self._states.put_all(states)
        if self._aged.are_timed:
            self._aged.note(states.values())
        self._aged.drop(self._states.trim())

    # What it does when that fails

    def _dead_letter(self, record: LogRecord, error: InvalidRecord) -> ProducerRecord:
        return make_dead_letter(
            self._domain.topics.dead_letters, ROLE, record, UNREADABLE, str(error)
        )

    # Redrive

    async def _redrive(
        self, requests: Sequence[tuple[ParkedAggregate, RedriveRequest]], report: ChunkReport
    ) -> None:
        """Load states anew, with all events that are stored; discards mark their events first."""
        parking, events = self._parking, self._stores.events
        asked = {parked.aggregate_id: request for parked, request in requests}
        states = await load_live_states(self._domain, self._stores, asked)
        await self._discard(requests, states, report)
        heads = await events.heads(asked)
        out = list[ProducerRecord]()
        for key, state in list(states.items()):
            again = self._maker.again(state, 1)
            try:
                await self._catch_up(state, heads.get(key, NO_HEAD).readable)
            except ReplayFailed as error:
                self._park(error, report)
                del states[key]
                continue
            out += again
            report.redriven += 1
            parking.end(key, heads.get(key, NO_HEAD).readable)
        if states:
            # An owner that was fenced must not end what its successor has in memory.
            await self._writer.commit(out, self._next_offset)
        await self._save(states, [], self._next_offset, report)
        for key, request in asked.items():
            if key in parking.aggregates:
                await parking.end_request(request)

    async def _discard(
        self,
        requests: Sequence[tuple[ParkedAggregate, RedriveRequest]],
        states: Mapping[str, LiveState],
        report: ChunkReport,
    ) -> None:
        """Note the discards that are requested, in the log too, then mark their events."""
        keys = []
        for parked, request in requests:
            discard = self._parking.discard_of(parked, request)
            if discard and states[parked.aggregate_id].version < parked.first:
                self._parking.discard_first(parked.aggregate_id, discard)
                keys.append(EventKey(parked.aggregate_id, parked.event_id))
        if keys:
            last = await self._parking.save()
            await self._writer.commit([], self._next_offset, last=last)
        for key in keys:
            await self._stores.events.mark_discarded(key)
            report.discarded += 1
