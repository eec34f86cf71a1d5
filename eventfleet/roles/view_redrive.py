"""ViewRedrive: redrives aggregates that builds of views park.

A redrive folds the aggregate anew and corrects the rows in place. Totals can't be: a part says how
far it is, not what was left out. So a build that has totals is noted to be stale, and is built
anew; after a discard each build is, since owners before may have applied the event.
"""

import logging
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.build_parking import BuildParking, build_name
from eventfleet.roles.build_redrive import BuildRedrive
from eventfleet.roles.event_applier import Commit
from eventfleet.roles.kept_builds import KeptBuilds
from eventfleet.roles.poison_events import RaisedOn
from eventfleet.roles.projected_reader import ProjectedReader
from eventfleet.roles.refolded_aggregate import RefoldedAggregate
from eventfleet.roles.role import ChunkReport
from eventfleet.stores.contracts import Clock, DomainStores
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.topics.parked import ParkedAggregate

logger = logging.getLogger(__name__)


class ViewRedrive:
    """The redrives of one partition's owner."""

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        stores: DomainStores,
        parking: BuildParking,
        kept: KeptBuilds,
        reader: ProjectedReader,
        commit: Commit,
        clock: Clock,
    ) -> None:
        assert stores.views is not None
        self._domain, self._partition = domain, partition
        self._events, self._views = stores.events, stores.views
        self._parking, self._kept, self._reader = parking, kept, reader
        self._commit, self._clock = commit, clock

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
