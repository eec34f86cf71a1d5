"""Snapshot: keeps snapshots of each aggregate of a partition, as its domain's rule says.

Takes a chunk of `<domain>.stored`; folds it into live states; saves the snapshots that are due in
one bulk, then writes them to the compacted topic together with the offset. A repeat is skipped; a
gap, or an aggregate not in memory, is read from the stores.

An event is folded as soon as it is read and not kept: while it is near in memory, its fold and its
end cost half as much as after the whole chunk was read.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

import orjson

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import make_typed_decoder
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.role import ChunkReport, PoisonEvent
from eventfleet.roles.takeover import take_over
from eventfleet.states.live_state import LiveState, ReplayFailed, load_live_states, take_snapshot
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import (
    Clock,
    DomainStores,
    ParkedAggregates,
    PartitionWriter,
    Snapshot,
    Stage,
)
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import FoldableEvent
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord

ROLE = "snapshot"
AGED_AT_ONCE = 500
SWEEP_PAGE = 100
SWEEP_PAUSE = timedelta(minutes=1)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Taken:
    """What a chunk's records are: letters for those that can't be read, events folded in memory.

    `folded` are the aggregates of these; `left`, by aggregate, the events that take the stores, or
    are repeats.
    """

    report: ChunkReport = field(default_factory=ChunkReport)
    letters: list[ProducerRecord] = field(default_factory=list)
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
        parked: ParkedAggregates,
        clock: Clock,
        *,
        cached: int,
        limit: int,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self._domain, self._partition, self._stores = domain, partition, stores
        self._writer, self._parked, self._clock = writer, parked, clock
        self._limit, self._notifier = limit, notifier
        self._lives: LruCache[LiveState] = LruCache(cached)
        self._topic = Topics.of(domain.name).snapshots
        self._event = make_typed_decoder(domain)
        self._next = 0
        self._timed = domain.snapshot is not None and domain.snapshot.needs_clock
        self._changed: dict[str, None] = {}  # if timed: cached lives past their snapshot, in order
        self._cursor = ""
        self._swept_at: datetime | None = None

    async def open(self) -> int:
        """Take the partition over."""
        self._lives.clear()
        self._changed.clear()
        self._cursor, self._swept_at = "", None
        self._next = await take_over(self._writer, self._parked, self._partition) or 0
        return self._next

    # What it does to one chunk

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        taken = Taken()
        try:
            self._take(records, taken)
            lives = await self._warm(taken)
            await self._fold(lives, taken)
        except ReplayFailed as error:
            raise self._poison(error, self._offset(records, error.event)) from error.cause
        report = taken.report
        await self._save(lives, taken.letters, next_offset, report)
        if taken.awaited:
            self._notifier.notify(Stage.SNAPSHOTTED, taken.awaited)
        return report

    async def tick(self) -> ChunkReport:
        """Snapshots that only the passing of time makes due: a bounded number a call."""
        report = ChunkReport()
        if self._timed:
            aged = [live for key in self._oldest() if (live := self._lives.get(key))]
            aged += await self._sweep()
            lives = {live.aggregate_id: live for live in aged}
            await self._save(lives, [], self._next, report)
        return report

    async def close(self) -> None:
        await self._writer.close()

    def _take(self, records: Sequence[LogRecord], taken: Taken) -> None:
        """Fold what follows on from a life in memory."""
        read, known, domain, now = self._event, self._lives.peek, self._domain, self._clock.now()
        folded, left = taken.folded, taken.left
        for record in records:
            try:
                event = read(record.value)
            except InvalidRecord as error:
                taken.letters.append(self._letter(record, error))
                taken.report.dead_letters += 1
                continue
            if event.reply_to:
                taken.awaited.append(event)
            key = event.aggregate_id
            live = known(key)
            if live is not None and live.follow(domain, event, now):
                folded[key] = None
            else:
                left.setdefault(key, []).append(event)

    async def _warm(self, taken: Taken) -> dict[str, LiveState]:
        """The lives of the chunk's aggregates; those not in memory as of just before what is left.

        A snapshot that is at or past the first event was saved by another; the topic gets it again.
        """
        left = taken.left
        lives = self._lives.found(chain(taken.folded, left))
        if missing := [key for key in left if key not in lives]:
            for key, live in (await load_live_states(self._domain, self._stores, missing)).items():
                first = left[key][0].version
                if live.version >= first and (shot := self._shot(live, live.time)):
                    taken.letters.append(self._record(shot))
                await self._catch_up(live, first - 1)
                lives[key] = live
        return lives

    async def _fold(self, lives: Mapping[str, LiveState], taken: Taken) -> None:
        """What is left: each event that is ahead, once a gap before it is read."""
        domain, now = self._domain, self._clock.now()
        for key, events in taken.left.items():
            live = lives[key]
            for event in events:
                if event.version <= live.version:
                    taken.report.repeated += 1
                    continue
                if not live.follow(domain, event, now):
                    await self._catch_up(live, event.version - 1)
                    live.fold(domain, event, now)

    async def _catch_up(self, live: LiveState, upto: int) -> None:
        if live.version < upto:
            async for event in self._stores.events.read(live.aggregate_id, live.version, upto):
                try:
                    live.fold(self._domain, event)
                except ReplayFailed as error:
                    raise self._poison(error, event.position) from error.cause
        if live.version < upto:
            missing = f"{self._domain.name} {live.aggregate_id!r} version {live.version + 1}"
            raise ServerUnavailable(f"{missing} is not in the event store yet")

    def _letter(self, record: LogRecord, error: InvalidRecord) -> ProducerRecord:
        return make_dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error))

    def _poison(self, error: ReplayFailed, at: int | str | None) -> PoisonEvent:
        return PoisonEvent(ROLE, self._domain.name, error.event, at, error.cause)

    def _offset(self, records: Sequence[LogRecord], event: FoldableEvent) -> int | None:
        """Of the record that is this event."""
        for record in records:
            with suppress(InvalidRecord):
                if self._event(record.value) == event:
                    return record.offset
        return None

    # The snapshots that are due

    async def _save(
        self,
        lives: Mapping[str, LiveState],
        out: list[ProducerRecord],
        next_offset: int,
        report: ChunkReport,
    ) -> None:
        """First the store, then the topic with the offset, and only then memory."""
        now = self._clock.now()
        due = self._due(lives.values(), now)
        saved = [shot for live in due if (shot := self._shot(live, now))]
        if saved:
            await self._stores.snapshots.save(saved)
            out = out + [self._record(shot) for shot in saved]
        if out or next_offset != self._next:
            await self._writer.commit(out, next_offset)
        self._next = next_offset
        report.snapshots += len(saved)
        report.too_large += len(due) - len(saved)
        report.emitted += len(saved)
        for live in due:
            live.snapshot_taken(now)
        self._keep(lives)

    def _due(self, lives: Iterable[LiveState], now: datetime) -> list[LiveState]:
        rule = self._domain.snapshot
        if rule is None:
            return []
        least = rule.min_events
        asked = [live for live in lives if live.version - live.snapshot_version >= least]
        return [live for live in asked if rule.due(live.since_snapshot(now))]

    def _shot(self, live: LiveState, taken_at: datetime | None) -> Snapshot | None:
        shot = take_snapshot(self._domain, live, taken_at or self._clock.now(), self._limit)
        if shot is None:
            logger.warning(
                "%s %r version %d: no snapshot is kept of a state with more than %d bytes "
                "or with values that JSON or the store can't hold",
                *(self._domain.name, live.aggregate_id, live.version, self._limit),
            )
        return shot

    def _record(self, shot: Snapshot) -> ProducerRecord:
        value = {
            "aggregate_id": shot.aggregate_id,
            "version": shot.version,
            "state": shot.state,
            "state_version": shot.state_version,
            "taken_at": shot.taken_at,
        }
        encoded = orjson.dumps(value, option=orjson.OPT_UTC_Z)
        return ProducerRecord(self._topic, shot.aggregate_id.encode(), encoded, self._partition)

    def _keep(self, lives: Mapping[str, LiveState]) -> None:
        self._lives.put_all(lives)
        if self._timed:
            for key, live in lives.items():
                if live.version > live.snapshot_version:
                    self._changed.setdefault(key)
                else:
                    self._changed.pop(key, None)
        for live in self._lives.trim():
            self._changed.pop(live.aggregate_id, None)

    # Aggregates that nobody writes to any more

    def _oldest(self) -> list[str]:
        """Some of the changed lives, longest unseen first; they go to the end of the line."""
        keys = list(islice(self._changed, AGED_AT_ONCE))
        for key in keys:
            self._changed[key] = self._changed.pop(key)
        return keys

    async def _sweep(self) -> list[LiveState]:
        """One page of the partition's aggregates: those past their snapshot and not in memory."""
        now = self._clock.now()
        if not self._cursor:
            if self._swept_at and now - self._swept_at < SWEEP_PAUSE:
                return []
            self._swept_at = now
        events = self._stores.events
        page = await events.aggregates(self._cursor, SWEEP_PAGE, self._partition)
        self._cursor = page.cursor if len(page.items) == SWEEP_PAGE else ""
        unseen = [key for key in page.items if key not in self._lives]
        if not unseen:
            return []
        heads = await events.heads(unseen)
        lives = (await load_live_states(self._domain, self._stores, unseen)).values()
        behind = [live for live in lives if heads[live.aggregate_id].version > live.version]
        for live in behind:
            await self._catch_up(live, heads[live.aggregate_id].version)
        return behind
