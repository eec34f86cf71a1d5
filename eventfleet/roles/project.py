"""Project: keeps the views of a domain, in one partition.

Takes a chunk of `<domain>.stored`; applies its events to the builds of the views that this process
declares; moves the offset. A build that follows the live one is first brought up to date from the
event store, a number of events in each tick, and is then kept beside it.

Who has been fenced must not write to a build that was begun since. So an owner commits before it
brings a build up to date, which fails if another has taken over, and writes to none that it did
not have at a commit.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.model.views import ProjectedEvent
from eventfleet.roles.build_choice import BuildChoice
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.event_applier import EventApplier
from eventfleet.roles.kept_builds import KeptBuilds, ProjectedPartition
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier, notify_parked
from eventfleet.roles.projected_reader import ProjectedReader
from eventfleet.roles.recent_builds import RecentBuilds
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.takeover import RoleStart
from eventfleet.roles.view_projector import ROLE
from eventfleet.roles.view_redrive import ViewRedrive
from eventfleet.roles.view_statistics import ViewStatistics
from eventfleet.stores.contracts import Clock, DomainStores, PartitionWriter, Stage
from eventfleet.stores.cursors import FeedPoint
from eventfleet.topics.record import LogRecord, ProducerRecord

MAX_AWAITED_EVENTS = 1_000
PURGE_INTERVAL = timedelta(hours=1)
TOMBSTONE_AGE = timedelta(days=1)
"""A process that stood still for longer could bring deleted rows back with a late write."""


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
        views, statistics = stores.views, statistics or ViewStatistics()
        assert views is not None
        self._writer, self._parking, self._clock, self._notifier = writer, parking, clock, notifier
        self._start = RoleStart(stores.events.registry, domain.name, ROLE, partition)
        self._reader = ProjectedReader(domain, parking)
        of = ProjectedPartition(domain, partition, stores.events, views, parking, clock)
        self._kept = KeptBuilds(of, cached=cached, statistics=statistics)
        self._choice = BuildChoice(
            *(of, self._kept),
            partitions=partitions,
            recent_builds=recent_builds or RecentBuilds(views, clock),
            statistics=statistics,
        )
        self._applier = EventApplier(of, self._kept, self._reader, self._commit_here)
        self._redrive = ViewRedrive(of, self._kept, self._reader, self._commit_here)
        self._awaited: deque[Any] = deque(maxlen=MAX_AWAITED_EVENTS)
        self._purged_at = clock.steady()
        self._next_offset = 0

    async def open(self) -> int:
        """Take the partition over. ChangedView: a view needs a higher version."""
        self._kept.clear()
        self._next_offset = await self._start.take_over(self._writer)
        await self._parking.open()
        await self._kept.take_over()
        await self._choice.look()
        return self._next_offset

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report, out = ChunkReport(), list[ProducerRecord]()
        events, unreadable = self._reader.read(records, out)
        # Builds that follow come first: one may be made live at any moment, here or elsewhere, and
        # must not lack what readers have seen in the one before.
        for key, projector in reversed([*self._kept.projectors.items()]):
            if projector.ready:
                about = key, projector, events, unreadable
                await self._applier.apply(*about, report, records)
        report.dead_letters = len(out)
        await self._commit(out + self._parking.dead_letters(records), next_offset)
        if events:
            self._choice.reached = max(self._choice.reached, FeedPoint.of(events[-1]))
        awaited = [event for event in events if event.reply_to]
        self._awaited += [event for event in awaited if self._kept.is_seen(event)]
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
            if not self._kept.is_seen(event)
        ]

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        await self._writer.commit(out, next_offset, last=await self._parking.save())
        self._next_offset = next_offset
        await self._parking.release()

    async def _commit_here(self, out: Sequence[ProducerRecord]) -> None:
        await self._commit(out, self._next_offset)

    def _notify(self) -> None:
        """Notify of what is awaited, once queries see it."""
        if self._awaited and self._kept.answers:
            self._notifier.notify(Stage.PROJECTED, list(self._awaited))
            self._awaited.clear()

    # Between chunks

    async def tick(self) -> ChunkReport:
        """Bring builds up to date, a part at a time; look for new builds; remove tombstones.

        Before that, do what operators ask for of parked aggregates. Builds wait until all of it is
        done, since each redrive may make them stale.
        """
        report = ChunkReport()
        if await self._do_requests(report):
            return report
        await self._kept.prepare()
        behind = self._kept.behind()
        if behind:
            await self._commit_here([])  # which fails if another owner has taken over
        for key, projector in behind:
            await self._applier.catch_up(key, projector, report)
        if behind:
            await self._commit_here([])
        if behind or self._choice.is_due:
            await self._kept.note_points()
            await self._choice.look(since=self._kept.looked_at)
            if self._parking.is_unsaved:
                await self._commit_here([])
            self._notify()
        if self._clock.steady() - self._purged_at >= PURGE_INTERVAL:
            self._purged_at = self._clock.steady()
            await self._kept.purge(self._clock.now() - TOMBSTONE_AGE)
        return report

    async def _do_requests(self, report: ChunkReport) -> bool:
        """Do what operators ask for of parked aggregates; return whether there was anything."""
        requests = await self._parking.requests()
        if requests:
            await self._choice.look(begins=False)
        for parked, request in requests:
            await self._redrive.redrive(parked, request, report)
            if self._parking.out_of_time:
                break
        return bool(requests)

    @property
    def at_rest(self) -> bool:
        return self._kept.are_read and not self._parking.aggregates

    async def close(self) -> None:
        self._choice.close()
        await self._writer.close()
