"""ViewRedrive: redrives aggregates that builds of views park.

A redrive folds the aggregate anew and corrects the rows in place. Totals can't be: a part says how
far it is, not what was left out. So a build that has totals is noted to be stale, and is built
anew; after a discard each build is, since owners before may have applied the event.
"""

import logging
from collections.abc import Collection
from typing import Any

from eventfleet.model.views import View
from eventfleet.roles.build_parking import ParkedFault, build_name
from eventfleet.roles.event_applier import Commit
from eventfleet.roles.kept_builds import BuildKey, KeptBuilds, ProjectedPartition
from eventfleet.roles.poison_events import RaisedOn
from eventfleet.roles.projected_reader import ProjectedReader
from eventfleet.roles.refolded_aggregate import RefoldedAggregate
from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.topics.parked import Discard, ParkedAggregate

logger = logging.getLogger(__name__)


class BuildRedrive:
    """The redrive of an aggregate, with or without a discard of its first parked event.

    `views` are the names of the declared ones. `corrected` has the rows of the builds in which
    parked events are through.
    """

    def __init__(
        self, parked: ParkedAggregate, discard: Discard | None, views: Collection[str]
    ) -> None:
        self._parked, self._discard, self._views = parked, discard, views
        self._done: dict[str, int] = {}
        self._faults: list[ParkedFault] = []
        self.corrected: list[tuple[BuildKey, RefoldedAggregate]] = []

    def add(
        self, key: BuildKey, rows: RefoldedAggregate, done: int, failed: RaisedOn | None
    ) -> None:
        """Add a build, folded up to version `done`."""
        build = build_name(*key)
        self._done[build] = done
        if failed:
            self._faults.append(ParkedFault(build, *failed))
        if done >= self._parked.builds[build]:
            self.corrected.append((key, rows))

    @property
    def discards(self) -> Discard | None:
        """The discard; None where an earlier event fails now."""
        early = any(fault.event.version < self._parked.first for fault in self._faults)
        return None if early else self._discard

    @property
    def fault(self) -> ParkedFault | None:
        """The fault of the lowest version."""
        return min(self._faults, key=lambda fault: fault.event.version, default=None)

    @property
    def left(self) -> dict[str, int]:
        """The builds that park the aggregate after this, and from which version on."""
        others = self._parked.builds.keys() - self._done.keys()
        left = {each: self._parked.builds[each] for each in others if not self._is_left(each)}
        return left | {fault.build: fault.event.version for fault in self._faults}

    @property
    def redriven(self) -> int:
        """How many parked events are through in all builds that were tried."""
        return max(0, min(self._done.values(), default=0) - self._parked.first + 1)

    def needs_anew(self, build: str, view: View[Any] | None) -> bool:
        """Return whether a build must be built anew; `view` if it was tried here."""
        if self.discards or build not in self._parked.builds:
            return self.discards is not None
        if view is None:
            return self._is_left(build)
        return bool(view.totals) and self._done[build] >= self._parked.builds[build]

    def _is_left(self, build: str) -> bool:
        """Return whether nobody redrives what a build parks: it is built anew, or of no view."""
        return self.discards is not None or build.rpartition("/")[0] not in self._views


class ViewRedrive:
    """The redrives of one partition's owner."""

    def __init__(
        self, of: ProjectedPartition, kept: KeptBuilds, reader: ProjectedReader, commit: Commit
    ) -> None:
        self._domain, self._partition, self._events, self._views, self._parking, self._clock = of
        self._kept, self._reader, self._commit = kept, reader, commit

    async def redrive(
        self, parked: ParkedAggregate, request: RedriveRequest, report: ChunkReport
    ) -> None:
        """Fold the aggregate anew, up to an event that fails again; have it right in all builds."""
        parking, known = self._parking, self._parking.aggregates.get(parked.aggregate_id)
        if known is None:
            return
        discard = parking.discard_of(known, request)
        redrive = BuildRedrive(known, discard, {v.name for v in self._domain.views})
        for key, projector in self._kept.projectors.items():
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
            projector = self._kept.projectors[key]
            await projector.replace_rows(refolded.stored(projector.view, now))
        if redrive.discards:
            parking.discard_first(known.aggregate_id, redrive.discards)
            report.discarded += 1
        parking.settle(known.aggregate_id, redrive.left, redrive.fault)
        report.redriven += redrive.redriven
        await self._commit([])
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
                    refolded.apply(self._reader.with_payload(event))
                except Exception as error:
                    return done, RaisedOn(event, error)
            done = event.version
        return done, None

    async def _note_stale(self, redrive: BuildRedrive) -> None:
        """Note which builds must be built anew, since rows that are corrected are not enough."""
        for name, builds in (await self._views.builds()).items():
            for build in filter(None, builds):
                kept = self._kept.projectors.get((name, build.number))
                view = kept.view if kept else None
                if redrive.needs_anew(build_name(name, build.number), view):
                    await self._kept.note_stale(name, build)
