"""Project: keeps the views of a domain, in one partition.

Takes a chunk of `<domain>.stored`; applies its events to the builds of the views that this process
declares; moves the offset. A build that follows the live one is first brought up to date from the
event store, a number of events in each tick, and is then kept beside it.

A build is ready in a partition while every owner since has applied each chunk to it. An owner that
does not, since its process declares another version of the view or none, says so before its first
chunk; the next owner that does brings the build up to date from the store again.

An earlier owner must not call a build ready that lacks what a later one has processed. So each
owner counts, before its first chunk, that it takes over the builds that are not ready: what an
earlier one notes after that is refused. For builds that were begun since, an owner that has come to
the end of the store's events commits once before it notes that: the commit fails if another owner
has taken over.

An event on which code of the domain raises, in any build, parks its aggregate for all of them. A
redrive folds the aggregate anew and corrects the rows of all views in place. Totals can't be: a
part says how far it is, not what was left out. So a build that has totals is noted to be stale, and
is built anew; after a discard each build is, since owners before may have applied the event. Who
has been fenced must not write to what is begun then: so an owner commits before it brings a build
up to date, and writes to none that it did not have at a commit.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import FOLD_FIELDS, make_typed_decoder
from eventfleet.model.views import ProjectedEvent, View
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.parking import LoggedParking
from eventfleet.roles.recent_builds import RecentBuilds
from eventfleet.roles.refolded_aggregate import RefoldedAggregate
from eventfleet.roles.role import ChunkReport, PartitionFault
from eventfleet.roles.takeover import RoleStart
from eventfleet.roles.view_projector import ROLE, ViewProjector
from eventfleet.roles.view_statistics import ViewStatistics, build_statuses
from eventfleet.stores.contracts import (
    Clock,
    DomainStores,
    PartitionWriter,
    Stage,
)
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.record import LogRecord, ProducerRecord

BUILDS_INTERVAL = timedelta(seconds=2)
CATCH_UP_PAGE_EVENTS = 1_000
CATCH_UP_PAGES = 5
MAX_AWAITED_EVENTS = 1_000
PURGE_INTERVAL = timedelta(hours=1)
TOMBSTONE_AGE = timedelta(days=1)
"""A process that stood still for longer could bring deleted rows back with a late write."""

PROJECTED_FIELDS = FOLD_FIELDS | {"position", "actor", "causation_id"}

_is_position = re.compile(r"[0-9]{1,18}-[0-9]{1,18}-[0-9]{1,18}").fullmatch

logger = logging.getLogger(__name__)


class ChangedView(PartitionFault):
    """A view whose rows changed their shape, but which has the version that it had."""

    def __init__(self, domain: str, view: View[Any]) -> None:
        super().__init__(
            f"project can't go on: view {view.name} of {domain} has the rows of another shape, and "
            f"version {view.version} as before: raise its version, and it is built anew"
        )


# What it takes


class ProjectRole:
    """The project role of one partition of one domain.

    `partitions` is the number of the domain's partitions; `cached` rows of each table are kept in
    memory. The owners of all partitions share `statistics` and `recent_builds`.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        stores: DomainStores,
        writer: PartitionWriter,
        parking: LoggedParking,
        clock: Clock,
        *,
        partitions: int,
        cached: int,
        notifier: StageNotifier = NULL_NOTIFIER,
        statistics: ViewStatistics | None = None,
        recent_builds: RecentBuilds | None = None,
    ) -> None:
        assert stores.views is not None
        self._domain, self._partition = domain, partition
        self._events, self._views = stores.events, stores.views
        self._writer, self._parking, self._clock = writer, parking, clock
        self._start = RoleStart(stores.events.registry, domain.name, ROLE, partition)
        self._partitions, self._cached, self._notifier = partitions, cached, notifier
        self._decode = make_typed_decoder(domain, PROJECTED_FIELDS)
        self._projectors: dict[tuple[str, int], ViewProjector] = {}
        self._noted: dict[tuple[str, int], BuildProgress] = {}
        self._live: set[tuple[str, int]] = set()
        self._awaited: deque[Any] = deque(maxlen=MAX_AWAITED_EVENTS)
        self._recent_builds = recent_builds or RecentBuilds(stores.views, clock)
        self._looked_at: datetime | None = None
        self._changed_at = clock.steady()  # when this owner last noted or removed something
        self._purged_at = clock.steady()
        self._next_offset = 0
        self._reached = FeedPoint.start(partition)
        self._statistics = statistics or ViewStatistics()

    async def open(self) -> int:
        """Take the partition over. ChangedView: a view needs a higher version."""
        self._projectors.clear()
        self._noted.clear()
        self._next_offset = await self._start.take_over(self._writer)
        await self._parking.open()
        await self._take_over_builds()
        await self._look_at_builds()
        return self._next_offset

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report, out = ChunkReport(), list[ProducerRecord]()
        events = self._read(records, out, report)
        # Builds that follow come first: one may be made live at any moment, here or elsewhere, and
        # must not lack what readers have seen in the one before.
        for key, projector in reversed([*self._projectors.items()]):
            if projector.ready:
                events = await self._apply(key, projector, events, report, records)
        report.dead_letters = len(out)
        await self._commit(out + self._parking.dead_letters(records), next_offset)
        if events:
            self._reached = max(self._reached, FeedPoint.of(events[-1]))
        self._awaited += [event for event in events if event.reply_to]
        self._notify()
        return report

    def _read(
        self, records: Sequence[LogRecord], out: list[ProducerRecord], report: ChunkReport
    ) -> list[ProjectedEvent]:
        """Return the events that are to be applied."""
        events: list[ProjectedEvent] = []
        # Locals: this loop runs for each event.
        decode, is_position, parking = self._decode, _is_position, self._parking
        parked, discards = parking.aggregates, parking.discards
        for record in records:
            try:
                event: Any = decode(record.value)
                if not is_position(event.position or ""):
                    raise InvalidRecord("position", f"is {event.position!r}, not one of append's")
            except InvalidRecord as error:
                out.append(self._dead_letter(record, error))
                continue
            if (parked or discards) and self._passes_over(event, report):
                continue
            # An event of a declared type was decoded with its payload. `isinstance` takes longer.
            if type(event) is EventRecord:
                event = None if event.discarded else self._upcast(event, report)
                if event is None:
                    continue
            events.append(event)
        return events

    def _passes_over(self, event: ProjectedEvent, report: ChunkReport) -> bool:
        """Return whether an event is discarded, or parked; that it is parked is noted."""
        if (event.aggregate_id, event.version) in self._parking.discards:
            return True
        parked = self._parking.aggregates.get(event.aggregate_id)
        if parked is None or event.version < parked.first:
            return False
        self._parking.park_behind(event.aggregate_id, event.version)
        report.parked += 1
        return True

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        await self._writer.commit(out, next_offset, last=await self._parking.save())
        self._next_offset = next_offset
        await self._parking.release()

    def _notify(self) -> None:
        """Notify of what is awaited, once queries see it."""
        if self._awaited and self._answers:
            self._notifier.notify(Stage.PROJECTED, list(self._awaited))
            self._awaited.clear()

    @property
    def _answers(self) -> bool:
        """True when queries read builds that have all events which were processed here."""
        ready = {key[0] for key in self._live if self._projectors[key].ready}
        return all(view.name in ready for view in self._domain.views)

    def _upcast(self, event: EventRecord, report: ChunkReport) -> EventRecord | None:
        """Return an event with its payload, upcast.

        None: an upcaster raised, or the domain as declared here does not read the event, so that
        its aggregate is parked.
        """
        try:
            return self._with_payload(event)
        except Exception as error:
            self._parking.park(event, error)
            report.parked += 1
            return None

    def _with_payload(self, event: EventRecord) -> EventRecord:
        payload: Any = self._domain.payload(event)
        return msgspec.structs.replace(event, data=payload)

    # The builds

    async def tick(self) -> ChunkReport:
        """Bring builds up to date, a part at a time; look for new builds; remove tombstones.

        Before that, do what operators ask for of parked aggregates. Builds wait until all of it is
        done, since each redrive may make them stale.
        """
        report = ChunkReport()
        if await self._do_requests(report):
            return report
        await self._prepare()
        behind = [(k, p) for k, p in self._projectors.items() if not p.ready and self._is_used(k)]
        if behind:
            await self._begin_catch_up()
        for key, projector in behind:
            await self._catch_up(key, projector, report)
        if behind:
            await self._commit([], self._next_offset)
        now = self._clock.steady()
        if behind or self._looked_at is None or now - self._looked_at >= BUILDS_INTERVAL:
            await self._note_points()
            await self._look_at_builds(since=self._looked_at)
            self._notify()
        if now - self._purged_at >= PURGE_INTERVAL:
            self._purged_at = now
            await self._purge(self._clock.now() - TOMBSTONE_AGE)
        return report

    def _is_used(self, key: tuple[str, int]) -> bool:
        """Return whether queries read a build, or will: one that is stale is never made live."""
        return key in self._live or not self._noted[key].stale

    async def _purge(self, before: datetime) -> None:
        """Remove old tombstones, but of events that no later owner will apply once more."""
        for key, projector in self._projectors.items():
            if noted := self._noted[key].point:
                await projector.purge(noted, before)

    async def _prepare(self) -> None:
        """Have the indexes of all builds; one that takes too long must not keep events waiting."""
        for projector in self._projectors.values():
            try:
                await projector.prepare()
            except ServerUnavailable as error:
                if not projector.ready:
                    raise
                projector.prepared = True
                logger.warning(
                    "view %s of %s: its indexes could not be made, so queries may be slow; make "
                    "them by hand where that takes long, or restart the workers of project: %s",
                    *(projector.view.name, self._domain.name, error),
                )

    @property
    def at_rest(self) -> bool:
        ready = all(projector.ready for projector in self._projectors.values())
        return ready and not self._parking.aggregates

    async def close(self) -> None:
        self._statistics.builds.pop(self._partition, None)
        await self._writer.close()

    async def _apply(
        self,
        key: tuple[str, int],
        projector: ViewProjector,
        events: Sequence[ProjectedEvent],
        report: ChunkReport,
        records: Iterable[LogRecord],
    ) -> list[ProjectedEvent]:
        """Apply events to a build; return those that are not parked by now.

        What is parked is committed before the build is written to without it. A removed build has
        lost its rows, so that functions of the view may raise; so may they in a stale one, which is
        replaced soon. Neither parks anything.
        """
        poison, left = await projector.plan(events), [*events]
        if poison and await self._is_removed(key):
            del self._projectors[key]
            self._live.discard(key)
            self._looked_at, self._changed_at = None, self._clock.steady()
            return left
        if poison and not self._noted[key].stale:
            for event, error in poison:
                self._parking.park(event, error)
            left = [event for event in events if not self._passes_over(event, report)]
        if self._parking.is_changed:
            await self._commit(self._parking.dead_letters(records), self._next_offset)
        await projector.save()
        return left

    async def _is_removed(self, key: tuple[str, int]) -> bool:
        """Return whether a build was removed, which may not be known yet."""
        builds = (await self._views.builds()).get(key[0], ViewBuilds())
        return all(build.number != key[1] for build in builds if build)

    async def _begin_catch_up(self) -> None:
        """Commit, which fails if another owner has taken over."""
        await self._commit([], self._next_offset)

    async def _catch_up(
        self, key: tuple[str, int], projector: ViewProjector, report: ChunkReport
    ) -> None:
        """Apply what the store has behind the projector's point; at its end it is ready."""
        for _ in range(CATCH_UP_PAGES):
            page = await self._events.placed(projector.point, CATCH_UP_PAGE_EVENTS)
            if not page:
                projector.ready = True
                break
            events = [
                upcast
                for event in page
                if not event.discarded
                and not self._passes_over(event, report)
                and (upcast := self._upcast(event, report))
            ]
            await self._apply(key, projector, events, report, map(self._source_of, page))
            if key not in self._projectors:
                break
            projector.point = FeedPoint.of(page[-1])

    def _source_of(self, event: EventRecord) -> LogRecord:
        """Return the record that an event came in, but with its version and position."""
        at, key = Position.parse(event.position or ""), event.aggregate_id.encode()
        topic = Topics.of(self._domain.name).events
        return LogRecord(topic, at.partition, at.offset, key, encode(event), EVENT_HEADERS)

    async def _note_points(self) -> None:
        """Note how far each build is, for the next owners, unless one has noted something since."""
        for key, projector in self._projectors.items():
            known = self._noted[key]
            progress = known._replace(ready=projector.ready, point=projector.point)
            if progress != known and await self._views.note_progress(
                *key, self._partition, known, progress
            ):
                self._noted[key] = progress
                self._changed_at = self._clock.steady()

    async def _look_at_builds(self, since: datetime | None = None, *, begins: bool = True) -> None:
        """Take up the builds that this process can keep; begin one where a view has none.

        They are those of now, or of a moment after `since` and after this owner's last change.
        """
        self._looked_at = self._clock.steady()
        since = self._looked_at if since is None else max(since, self._changed_at)
        while await self._changed_builds(since, begins):
            since = self._clock.steady()

    async def _changed_builds(self, since: datetime, begins: bool) -> bool:
        """Look once; return whether a build was begun or made live: then there is more to see."""
        changed = False
        builds = await self._recent_builds.read(since)
        kept: dict[tuple[str, int], ViewProjector] = {}
        self._live.clear()
        for view in self._domain.views:
            of_view = builds.get(view.name, ViewBuilds())
            for build in filter(None, of_view):
                key = view.name, build.number
                if build.shape == view.shape:
                    kept[key] = self._kept(key, build) or self._take_up(view, build)
            if of_view.live and (key := (view.name, of_view.live.number)) in kept:
                self._live.add(key)
            following = of_view.next
            if following and not following.stale and (view.name, following.number) in kept:
                if all(following.progress(each).ready for each in range(self._partitions)):
                    number = following.number
                    changed |= await self._views.make_live(view.name, number, self._partitions)
            elif begins and self._is_due(view, of_view):
                tables = [table.name for table in view.tables]
                last = of_view.last_number
                changed |= await self._views.begin(view.name, tables, view.shape, last)
        self._projectors = kept
        self._count_builds(builds)
        return changed

    def _count_builds(self, builds: Mapping[str, ViewBuilds]) -> None:
        """Note in the statistics what is ready here, and how far behind the rest is."""
        known = [build for of_view in builds.values() for build in of_view if build]
        points = [build.progress(self._partition).point for build in known]
        self._reached = max([self._reached, *filter(None, points)])
        self._statistics.builds[self._partition] = [
            status
            for view in self._domain.views
            for status in build_statuses(
                view.name, builds.get(view.name, ViewBuilds()), self._projectors, self._reached
            )
        ]

    def _kept(self, key: tuple[str, int], build: ViewBuild) -> ViewProjector | None:
        """Return what keeps a build, unless another owner has noted something else of it."""
        noted_by_us = self._noted.get(key) == build.progress(self._partition)
        return self._projectors.get(key) if noted_by_us else None

    def _take_up(self, view: View[Any], build: ViewBuild) -> ViewProjector:
        self._noted[view.name, build.number] = build.progress(self._partition)
        return ViewProjector(
            *(self._domain, view, build, self._partition, self._views, self._clock),
            cached=self._cached,
            written=self._statistics.rows,
        )

    async def _take_over_builds(self) -> None:
        """Count the takeover of builds that are not ready here, or will not be kept here."""
        shapes = {view.name: view.shape for view in self._domain.views}
        for name, builds in (await self._views.builds()).items():
            for build in filter(None, builds):
                known = build.progress(self._partition)
                if not known.ready or build.shape != shapes.get(name):
                    await self._count_takeover(name, build.number, known)

    async def _count_takeover(self, view: str, number: int, known: BuildProgress) -> None:
        counted = known._replace(ready=False, takeovers=known.takeovers + 1)
        noted = self._views.note_progress(view, number, self._partition, known, counted)
        if not await noted:
            raise ServerUnavailable(f"view {view}: an earlier owner still notes its progress")
        self._changed_at = self._clock.steady()

    def _is_due(self, view: View[Any], builds: ViewBuilds) -> bool:
        """Return whether a build must be begun. ChangedView: an equal version has other rows."""
        known = [build for build in builds if build]
        own = [build for build in known if build.shape == view.shape]
        if own and not own[-1].stale:
            return False
        versions = [build.shape.version for build in known if build not in own]
        if not own and view.version in versions:
            raise ChangedView(self._domain.name, view)
        return all(version < view.version for version in versions)

    # Redrive

    async def _do_requests(self, report: ChunkReport) -> bool:
        """Do what operators ask for of parked aggregates; return whether there was anything."""
        requests = await self._parking.requests()
        if requests:
            await self._look_at_builds(begins=False)
        for parked, request in requests:
            await self._redrive(parked, request, report)
            if self._parking.out_of_time:
                break
        return bool(requests)

    async def _redrive(
        self, parked: ParkedAggregate, request: RedriveRequest, report: ChunkReport
    ) -> None:
        """Fold the aggregate anew, up to an event that fails again; have it right in all builds."""
        aggregate_id, parking = parked.aggregate_id, self._parking
        if aggregate_id not in parking.aggregates:
            return
        discard = parking.discard_of(parked, request)
        refolded = RefoldedAggregate(self._domain.views, self._partition)
        done, failed = await self._refold(parked, refolded, parked.first if discard else 0)
        if not failed and done < parked.last:
            logger.error(
                "project of %s can't redrive %r: version %d is not in the event store",
                *(self._domain.name, aggregate_id, done + 1),
            )
            await parking.end_request(request)
            return
        if done >= parked.first:
            await self._note_stale(every=discard is not None)
            now = self._clock.now()
            for projector in self._projectors.values():
                await projector.replace_rows(refolded.stored(projector.view, now))
        if discard and done >= parked.first:
            parking.discard_first(aggregate_id, discard)
            report.discarded += 1
        if failed:
            parking.park(*failed)
        else:
            parking.end(aggregate_id, done)
        report.redriven += max(0, done - parked.first + 1)
        await self._commit([], self._next_offset)
        if aggregate_id in parking.aggregates:
            await parking.end_request(request)

    async def _refold(
        self, parked: ParkedAggregate, refolded: RefoldedAggregate, discarded: int
    ) -> tuple[int, tuple[EventRecord, Exception] | None]:
        """Fold an aggregate up to its last parked event, without the version that is `discarded`.

        Returns the last version that is through, and the next event with what it raised, if any.
        """
        done, aggregate_id = 0, parked.aggregate_id
        passed_over = self._parking.discards | {(aggregate_id, discarded)}
        async for event in self._events.read(aggregate_id, 0, parked.last):
            if event.version != done + 1:
                break
            if not event.discarded and (aggregate_id, event.version) not in passed_over:
                try:
                    refolded.apply(self._with_payload(event))
                except Exception as error:
                    return done, (event, error)
            done = event.version
        return done, None

    async def _note_stale(self, *, every: bool) -> None:
        """Note which builds must be built anew, since rows that are corrected are not enough."""
        for name, builds in (await self._views.builds()).items():
            for build in [build for build in builds if build]:
                key, known = (name, build.number), build.progress(self._partition)
                kept = self._projectors.get(key)
                if known.stale or (kept and not kept.view.totals and not every):
                    continue
                stale = known._replace(stale=True)
                if not await self._views.note_progress(*key, self._partition, known, stale):
                    raise ServerUnavailable(f"view {name}: another owner notes its progress")
                if kept and self._noted[key] == known:
                    self._noted[key] = stale
                self._changed_at = self._clock.steady()

    # What it does when that fails

    def _dead_letter(self, record: LogRecord, error: InvalidRecord) -> ProducerRecord:
        return make_dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error))
