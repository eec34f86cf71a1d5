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

An event on which code of the domain raises parks its aggregate in the builds that this code keeps,
and in no other. A redrive folds the aggregate anew and corrects the rows in place. Totals can't be:
a part says how far it is, not what was left out. So a build that has totals is noted to be stale,
and is built anew; after a discard each build is, since owners before may have applied the event.
Who has been fenced must not write to what is begun then: so an owner commits before it brings a
build up to date, and writes to none that it did not have at a commit.

A build that parks what the live one has is held: it is not made live (see HeldBuilds). The live
build of the shape before is kept as the former one, for the owners that declare it when a
deployment is taken back: they bring it up to date and make it live again.
"""

import logging
import re
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import FOLD_FIELDS, make_typed_decoder
from eventfleet.model.views import ProjectedEvent, View
from eventfleet.roles.build_parking import BuildParking, ParkedFault, build_name
from eventfleet.roles.build_redrive import BuildRedrive
from eventfleet.roles.held_builds import HeldBuilds
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier, notify_parked
from eventfleet.roles.parking import TooManyParked
from eventfleet.roles.poison_events import RaisedOn
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
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
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
LEFT_ALONE_INTERVAL = timedelta(minutes=1)
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
        parking: BuildParking,
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
        self._read_by_queries: set[tuple[str, int]] = set()
        self._held = HeldBuilds(domain.name, partition, parking)
        self._others: dict[str, tuple[Sequence[ViewBuild], datetime]] = {}
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
        self._held.clear(await self._views.repaired())
        await self._parking.open()
        await self._take_over_builds()
        await self._look_at_builds()
        return self._next_offset

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report, out = ChunkReport(), list[ProducerRecord]()
        events, unreadable = self._read(records, out)
        # Builds that follow come first: one may be made live at any moment, here or elsewhere, and
        # must not lack what readers have seen in the one before.
        for key, projector in reversed([*self._projectors.items()]):
            if projector.ready:
                await self._apply(key, projector, events, unreadable, report, records)
        report.dead_letters = len(out)
        await self._commit(out + self._parking.dead_letters(records), next_offset)
        if events:
            self._reached = max(self._reached, FeedPoint.of(events[-1]))
        awaited = [event for event in events if event.reply_to]
        self._awaited += [event for event in awaited if self._is_seen(event)]
        self._notify()
        lost = [*awaited, *(event for event, _ in unreadable)]
        notify_parked(self._notifier, Stage.PROJECTED, ROLE, self._parked(lost))
        return report

    def _parked(self, events: Iterable[ProjectedEvent]) -> list[tuple[ProjectedEvent, str]]:
        """Return those of the events that queries do not see, with the reasons."""
        aggregates = self._parking.aggregates
        return [
            (event, aggregates[event.aggregate_id].reason)
            for event in events
            if not self._is_seen(event)
        ]

    def _read(
        self, records: Sequence[LogRecord], out: list[ProducerRecord]
    ) -> tuple[list[ProjectedEvent], list[RaisedOn]]:
        """Return the events that are to be applied, and those that upcasters raise on."""
        events: list[ProjectedEvent] = []
        unreadable: list[RaisedOn] = []
        # Locals: this loop runs for each event.
        decode, is_position, discards = self._decode, _is_position, self._parking.discards
        for record in records:
            try:
                event: Any = decode(record.value)
                if not is_position(event.position or ""):
                    raise InvalidRecord("position", f"is {event.position!r}, not one of append's")
            except InvalidRecord as error:
                out.append(self._dead_letter(record, error))
                continue
            if discards and (event.aggregate_id, event.version) in discards:
                continue
            # An event of a declared type was decoded with its payload. `isinstance` takes longer.
            if type(event) is EventRecord:
                event = None if event.discarded else self._upcast(event, unreadable)
                if event is None:
                    continue
            events.append(event)
        return events, unreadable

    def _passes_over(self, build: str, event: ProjectedEvent, report: ChunkReport) -> bool:
        """Return whether a build parks an event, which is noted."""
        if not self._parking.parks(build, event):
            return False
        self._parking.park_behind(event.aggregate_id, event.version)
        report.parked += 1
        return True

    def _is_seen(self, event: ProjectedEvent) -> bool:
        """Return whether no build that queries read parks an event."""
        builds = [build_name(*key) for key in self._read_by_queries]
        return not any(self._parking.parks(build, event) for build in builds)

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
        ready = {key[0] for key in self._read_by_queries if self._projectors[key].ready}
        return all(view.name in ready for view in self._domain.views)

    def _upcast(self, event: EventRecord, unreadable: list[RaisedOn]) -> EventRecord | None:
        """Return an event with its payload, upcast.

        None: an upcaster raised, or the domain as declared here does not read the event, so that it
        is among the unreadable ones.
        """
        try:
            return self._with_payload(event)
        except Exception as error:
            unreadable.append(RaisedOn(event, error))
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
        behind = [(k, p) for k, p in self._projectors.items() if self._is_behind(k, p)]
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
            if self._parking.is_unsaved:
                await self._commit([], self._next_offset)
            self._notify()
        if now - self._purged_at >= PURGE_INTERVAL:
            self._purged_at = now
            await self._purge(self._clock.now() - TOMBSTONE_AGE)
        return report

    def _is_behind(self, key: tuple[str, int], projector: ViewProjector) -> bool:
        """Return whether a build is to be brought up to date: one that is stale is only if queries
        read it, since it is never made live."""
        is_used = key in self._read_by_queries or not self._noted[key].stale
        return is_used and projector.prepared and not projector.ready

    async def _purge(self, before: datetime) -> None:
        """Remove old tombstones, but of events that no later owner will apply once more."""
        for key, projector in self._projectors.items():
            if noted := self._noted[key].point:
                await projector.purge(noted, before)

    async def _prepare(self) -> None:
        """Have the indexes of all builds; one that takes too long must not keep events waiting.

        A build that no query reads is tried again, and held until then.
        """
        for key, projector in self._projectors.items():
            try:
                await projector.prepare()
                self._held.note_indexes(key)
            except (ServerUnavailable, Misconfigured) as error:
                if key not in self._read_by_queries:
                    self._held.note_indexes(key, error)
                    continue
                if not isinstance(error, ServerUnavailable):
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
        unreadable: Sequence[RaisedOn],
        report: ChunkReport,
        records: Iterable[LogRecord],
    ) -> None:
        """Apply events to a build, without those that it parks.

        What is parked is committed before the build is written to without it. A removed build has
        lost its rows, so that functions of the view may raise: it parks nothing.
        """
        build, parking = build_name(*key), self._parking
        if not await self._park(key, unreadable):
            return
        for event, _ in unreadable:
            self._passes_over(build, event, report)
        if parking.aggregates:
            events = [event for event in events if not self._passes_over(build, event, report)]
        poison = await projector.plan(events)
        if poison and await self._is_removed(key):
            self._drop(key)
            return
        if not await self._park(key, poison):
            return
        if poison:
            for event in events:
                self._passes_over(build, event, report)
        if parking.is_changed:
            await self._note_held(key)
            await self._commit(parking.dead_letters(records), self._next_offset)
        await projector.save()

    async def _park(self, key: tuple[str, int], faults: Iterable[RaisedOn]) -> bool:
        """Park events in a build. False: it parks too much; no query reads it, so it is dropped."""
        build = build_name(*key)
        for event, error in faults:
            if self._parking.parks(build, event):  # behind one of these
                continue
            try:
                self._parking.park_in(ParkedFault(build, event, error))
            except TooManyParked as fault:
                if key in self._read_by_queries:
                    raise
                self._held.stop(key, fault)
                await self._note_held(key)
                self._drop(key)
                return False
        return True

    def _drop(self, key: tuple[str, int]) -> None:
        """Keep a build no longer, and look at the builds soon."""
        del self._projectors[key]
        self._read_by_queries.discard(key)
        self._looked_at, self._changed_at = None, self._clock.steady()

    async def _note_held(self, key: tuple[str, int]) -> None:
        """Note that a build is held from now on, before the events are committed that it lacks."""
        known = self._noted[key]
        reason = self._held.reason(key)
        held = known._replace(ready=False, held=reason)
        if not reason or held == known:
            return
        self._held.log(key, known.held, reason)
        if not await self._views.note_progress(*key, self._partition, known, held):
            raise ServerUnavailable(f"view {key[0]}: another owner notes its progress")
        self._noted[key] = held
        self._changed_at = self._clock.steady()

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
            discards, unreadable = self._parking.discards, list[RaisedOn]()
            events = [
                upcast
                for event in page
                if not event.discarded
                and (event.aggregate_id, event.version) not in discards
                and (upcast := self._upcast(event, unreadable))
            ]
            records = map(self._source_of, page)
            await self._apply(key, projector, events, unreadable, report, records)
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
            known, reason = self._noted[key], self._held.reason(key)
            ready = projector.ready and not reason
            progress = known._replace(ready=ready, point=projector.point, held=reason)
            if progress != known and await self._views.note_progress(
                *key, self._partition, known, progress
            ):
                self._held.log(key, known.held, reason)
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
        self._read_by_queries.clear()
        self._held.see(builds)
        for view in self._domain.views:
            of_view = builds.get(view.name, ViewBuilds())
            for build in filter(None, of_view):
                key = view.name, build.number
                if build.shape == view.shape and not self._held.is_stopped(key):
                    kept[key] = self._kept(key, build) or self._take_up(view, build)
            if (read := of_view.read_by(view.shape)) and (view.name, read.number) in kept:
                self._read_by_queries.add((view.name, read.number))
            following = [build for build in (of_view.next, of_view.former) if build]
            if own := [each for each in following if self._will_follow(view, each, kept)]:
                changed |= await self._make_live(view, own[0])
            elif begins and self._is_due(view, of_view):
                tables = [table.name for table in view.tables]
                last = of_view.last_number
                changed |= await self._views.begin(view.name, tables, view.shape, last)
        self._projectors = kept
        await self._leave_builds(builds)
        self._count_builds(builds)
        return changed

    def _will_follow(
        self, view: View[Any], build: ViewBuild, kept: Container[tuple[str, int]]
    ) -> bool:
        return (view.name, build.number) in kept and not build.stale

    async def _make_live(self, view: View[Any], build: ViewBuild) -> bool:
        if not all(build.progress(each).ready for each in range(self._partitions)):
            return False
        return await self._views.make_live(view.name, build.number, self._partitions)

    async def _leave_builds(self, builds: Mapping[str, ViewBuilds]) -> None:
        """End what other builds park, but the live ones: they lack it, and are to be built anew.

        Who declares such a build again finds it stale. The live ones are compared with, and parked
        events of theirs are redriven by owners that keep them.
        """
        if not self._parking.aggregates:
            return
        left = {build_name(*key) for key in self._projectors}
        for name, of_view in builds.items():
            for build in filter(None, of_view):
                key = name, build.number
                if build is of_view.live or self._held.is_stopped(key):
                    left.add(build_name(*key))
                elif key not in self._projectors and self._parking.has(build_name(*key)):
                    await self._note_build_stale(name, build)
        self._parking.keep_only(left)

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
        if own and not max(own, key=attrgetter("number")).stale:
            return False
        others = [build for build in known if build not in own]
        versions = [build.shape.version for build in others]
        if not own and view.version in versions:
            raise ChangedView(self._domain.name, view)
        if all(version < view.version for version in versions):
            return True
        return bool(own) and self._is_left_alone(view.name, others)

    def _is_left_alone(self, view: str, others: Sequence[ViewBuild]) -> bool:
        """Return whether nobody has worked on the builds of a later version for a while: then the
        deployment has been taken back."""
        seen, since = self._others.get(view, (None, self._clock.steady()))
        if seen != others:
            since = self._clock.steady()
        self._others[view] = others, since
        return self._clock.steady() - since >= LEFT_ALONE_INTERVAL

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
        parking, known = self._parking, self._parking.aggregates.get(parked.aggregate_id)
        if known is None:
            return
        discard = parking.discard_of(known, request)
        redrive = BuildRedrive(known, discard, {v.name for v in self._domain.views})
        for key, projector in self._projectors.items():
            if build_name(*key) in known.builds:
                refolded = RefoldedAggregate([projector.view], self._partition)
                done, failed = await self._refold(known, refolded, known.first if discard else 0)
                if not failed and done < known.last:
                    await self._end_in_vain(known, request, done + 1)
                    return
                redrive.add(key, refolded, done, failed)
        await self._note_stale(redrive)
        now = self._clock.now()
        for key, refolded in redrive.corrected:
            projector = self._projectors[key]
            await projector.replace_rows(refolded.stored(projector.view, now))
        if redrive.discards:
            parking.discard_first(known.aggregate_id, redrive.discards)
            report.discarded += 1
        parking.settle(known.aggregate_id, redrive.left, redrive.fault)
        report.redriven += redrive.redriven
        await self._commit([], self._next_offset)
        if known.aggregate_id in parking.aggregates:
            await parking.end_request(request)

    async def _end_in_vain(
        self, parked: ParkedAggregate, request: RedriveRequest, version: int
    ) -> None:
        logger.error(
            "project of %s can't redrive %r: version %d is not in the event store",
            *(self._domain.name, parked.aggregate_id, version),
        )
        await self._parking.end_request(request)

    async def _refold(
        self, parked: ParkedAggregate, refolded: RefoldedAggregate, discarded: int
    ) -> tuple[int, RaisedOn | None]:
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
                    return done, RaisedOn(event, error)
            done = event.version
        return done, None

    async def _note_stale(self, redrive: BuildRedrive) -> None:
        """Note which builds must be built anew, since rows that are corrected are not enough."""
        for name, builds in (await self._views.builds()).items():
            for build in filter(None, builds):
                kept = self._projectors.get((name, build.number))
                view = kept.view if kept else None
                if redrive.needs_anew(build_name(name, build.number), view):
                    await self._note_build_stale(name, build)

    async def _note_build_stale(self, name: str, build: ViewBuild) -> None:
        key, known = (name, build.number), build.progress(self._partition)
        if known.stale:
            return
        stale = known._replace(stale=True)
        if not await self._views.note_progress(*key, self._partition, known, stale):
            raise ServerUnavailable(f"view {name}: another owner notes its progress")
        if self._noted.get(key) == known:
            self._noted[key] = stale
        self._changed_at = self._clock.steady()

    # What it does when that fails

    def _dead_letter(self, record: LogRecord, error: InvalidRecord) -> ProducerRecord:
        return make_dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error))
