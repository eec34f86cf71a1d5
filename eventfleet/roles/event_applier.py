"""EventApplier: applies events to the builds of an owner, chunk by chunk or from the store.

An event on which code of the domain raises parks its aggregate in the builds that this code keeps,
and in no other.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from eventfleet.model.views import ProjectedEvent
from eventfleet.roles.build_parking import ParkedFault, build_name
from eventfleet.roles.kept_builds import BuildKey, KeptBuilds, ProjectedPartition
from eventfleet.roles.parking import TooManyParked
from eventfleet.roles.poison_events import RaisedOn
from eventfleet.roles.projected_reader import ProjectedReader
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_projector import ViewProjector
from eventfleet.stores.cursors import FeedPoint
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord

CATCH_UP_PAGE_EVENTS = 1_000
CATCH_UP_PAGES = 5

Commit = Callable[[Sequence[ProducerRecord]], Awaitable[None]]
"""Commits records and what is parked, and lets the offset stay."""


class EventApplier:
    """Applies events to builds, without those that they park."""

    def __init__(
        self, of: ProjectedPartition, kept: KeptBuilds, reader: ProjectedReader, commit: Commit
    ) -> None:
        self._topic = of.domain.topics.events
        self._events, self._parking = of.events, of.parking
        self._kept, self._reader, self._commit = kept, reader, commit

    async def apply(
        self,
        key: BuildKey,
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
        if poison and await self._kept.is_removed(key):
            self._kept.drop(key)
            return
        if not await self._park(key, poison):
            return
        if poison:
            for event in events:
                self._passes_over(build, event, report)
        if parking.is_changed:
            await self._kept.note_held(key)
            await self._commit(parking.dead_letters(records))
        await projector.save()

    async def _park(self, key: BuildKey, faults: Iterable[RaisedOn]) -> bool:
        """Park events in a build. False: it parks too much; no query reads it, so it is dropped."""
        build = build_name(*key)
        for event, error in faults:
            if self._parking.parks(build, event):  # behind one of these
                continue
            try:
                self._parking.park_in(ParkedFault(build, event, error))
            except TooManyParked as fault:
                if key in self._kept.read:
                    raise
                self._kept.held.stop(key, fault)
                await self._kept.note_held(key)
                self._kept.drop(key)
                return False
        return True

    def _passes_over(self, build: str, event: ProjectedEvent, report: ChunkReport) -> bool:
        """Return whether a build parks an event, which is noted."""
        if not self._parking.parks(build, event):
            return False
        self._parking.park_behind(event.aggregate_id, event.version)
        report.parked += 1
        return True

    async def catch_up(self, key: BuildKey, projector: ViewProjector, report: ChunkReport) -> None:
        """Apply what the store has behind the projector's point; at its end it is ready."""
        for _ in range(CATCH_UP_PAGES):
            page = await self._events.placed(projector.point, CATCH_UP_PAGE_EVENTS)
            if not page:
                projector.ready = True
                break
            events, unreadable = self._reader.upcast_all(page)
            records = map(self._source_of, page)
            await self.apply(key, projector, events, unreadable, report, records)
            if key not in self._kept.projectors:
                break
            projector.point = FeedPoint.of(page[-1])

    def _source_of(self, event: EventRecord) -> LogRecord:
        """Return the record that an event came in, but with its version and position."""
        at, key = Position.parse(event.position or ""), event.aggregate_id.encode()
        return LogRecord(self._topic, at.partition, at.offset, key, encode(event), EVENT_HEADERS)
