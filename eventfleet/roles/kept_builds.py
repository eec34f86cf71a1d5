"""KeptBuilds: the builds of views that one owner keeps, and their noted progress.

A build is ready in a partition while every owner since has applied each chunk to it. An owner that
does not, since its process declares another version of the view or none, says so before its first
chunk; the next owner that does brings the build up to date from the store again.

An earlier owner must not call a build ready that lacks what a later one has processed. So each
owner counts, before its first chunk, that it takes over the builds that are not ready: what an
earlier one notes after that is refused.
"""

import logging
from datetime import datetime
from typing import Any, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.model.views import ProjectedEvent, View
from eventfleet.roles.build_parking import BuildParking, build_name
from eventfleet.roles.held_builds import HeldBuilds
from eventfleet.roles.view_projector import ViewProjector
from eventfleet.roles.view_statistics import ViewStatistics
from eventfleet.stores.contracts import Clock, EventStore
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild, ViewBuilds, ViewStore
from eventfleet.stores.errors import Misconfigured, ServerUnavailable

BuildKey = tuple[str, int]
"""A view's name, and the number of its build."""

logger = logging.getLogger(__name__)


class ProjectedPartition(NamedTuple):
    """A partition of a domain, and what the parts of its project role share."""

    domain: Domain[Any]
    number: int
    events: EventStore
    views: ViewStore
    parking: BuildParking
    clock: Clock


class KeptBuilds:
    """The builds of one owner, by key.

    `read` are the keys of those that queries read; `changed_at` is when this owner last noted or
    removed something, `looked_at` when it last looked for builds (None: it is to look soon).
    """

    def __init__(self, of: ProjectedPartition, *, cached: int, statistics: ViewStatistics) -> None:
        self._domain, self._partition, _, self._views, self._parking, self._clock = of
        self._cached, self._statistics = cached, statistics
        self.projectors: dict[BuildKey, ViewProjector] = {}
        self.read: set[BuildKey] = set()
        self.held = HeldBuilds(of.domain.name, of.number, of.parking)
        self.looked_at: datetime | None = None
        self.changed_at = of.clock.steady()
        self._noted: dict[BuildKey, BuildProgress] = {}

    def clear(self) -> None:
        self.projectors.clear()
        self._noted.clear()

    async def take_over(self) -> None:
        """Count the takeover of builds that are not ready here, or will not be kept here."""
        self.held.clear(await self._views.repaired())
        shapes = {view.name: view.shape for view in self._domain.views}
        for name, builds in (await self._views.builds()).items():
            for build in filter(None, builds):
                known = build.progress(self._partition)
                if self._is_taken_over(known, is_kept=build.shape == shapes.get(name)):
                    await self._count_takeover((name, build.number), known)

    def _is_taken_over(self, known: BuildProgress, *, is_kept: bool) -> bool:
        return not known.ready or not is_kept

    async def _count_takeover(self, key: BuildKey, known: BuildProgress) -> None:
        counted = known._replace(ready=False, takeovers=known.takeovers + 1)
        if not await self._note(key, known, counted):
            raise ServerUnavailable(f"view {key[0]}: an earlier owner still notes its progress")

    def keep(self, view: View[Any], build: ViewBuild) -> ViewProjector:
        """Return what keeps a build: a new one, where another owner has noted something of it."""
        key, noted = (view.name, build.number), build.progress(self._partition)
        if self._noted.get(key) == noted and (kept := self.projectors.get(key)):
            return kept
        self._noted[key] = noted
        return ViewProjector(
            *(self._domain, view, build, self._partition, self._views, self._clock),
            cached=self._cached,
            written=self._statistics.rows,
        )

    def drop(self, key: BuildKey) -> None:
        """Keep a build no longer, and look at the builds soon."""
        del self.projectors[key]
        self.read.discard(key)
        self.looked_at, self.changed_at = None, self._clock.steady()

    # What queries see

    def is_seen(self, event: ProjectedEvent) -> bool:
        """Return whether no build that queries read parks an event."""
        return not any(self._parking.parks(build_name(*key), event) for key in self.read)

    @property
    def answers(self) -> bool:
        """True when queries read builds that have all events which were processed here."""
        ready = {key[0] for key in self.read if self.projectors[key].ready}
        return all(view.name in ready for view in self._domain.views)

    @property
    def are_read(self) -> bool:
        """True when all are ready, and queries read each: none is to be made live soon."""
        ready = all(projector.ready for projector in self.projectors.values())
        return ready and self.projectors.keys() == self.read

    def behind(self) -> list[tuple[BuildKey, ViewProjector]]:
        """Return the builds that are to be brought up to date: a stale one only if queries read it,
        since it is never made live."""
        return [
            (key, each)
            for key, each in self.projectors.items()
            if (key in self.read or not self._noted[key].stale) and each.prepared and not each.ready
        ]

    # The rows

    async def prepare(self) -> None:
        """Have the indexes of all builds; one that takes too long must not keep events waiting.

        A build that no query reads is tried again, and held until then.
        """
        for key, projector in self.projectors.items():
            try:
                await projector.prepare()
                self.held.note_indexes(key)
            except (ServerUnavailable, Misconfigured) as error:
                if key not in self.read:
                    self.held.note_indexes(key, error)
                    continue
                if not isinstance(error, ServerUnavailable):
                    raise
                projector.prepared = True
                logger.warning(
                    "view %s of %s: its indexes could not be made, so queries may be slow; make "
                    "them by hand where that takes long, or restart the workers of project: %s",
                    *(projector.view.name, self._domain.name, error),
                )

    async def purge(self, before: datetime) -> None:
        """Remove old tombstones, but of events that no later owner will apply once more."""
        for key, projector in self.projectors.items():
            if noted := self._noted[key].point:
                await projector.purge(noted, before)

    async def is_removed(self, key: BuildKey) -> bool:
        """Return whether a build was removed, which may not be known yet."""
        builds = (await self._views.builds()).get(key[0], ViewBuilds())
        return all(build.number != key[1] for build in builds if build)

    # Progress

    async def note_held(self, key: BuildKey) -> None:
        """Note that a build is held from now on, before the events are committed that it lacks."""
        known, reason = self._noted[key], self.held.reason(key)
        held = known._replace(ready=False, held=reason)
        if not reason or held == known:
            return
        self.held.log(key, known.held, reason)
        if not await self._note(key, known, held):
            raise ServerUnavailable(f"view {key[0]}: another owner notes its progress")
        self._noted[key] = held

    async def note_points(self) -> None:
        """Note how far each build is, for the next owners, unless one has noted something since."""
        for key, projector in self.projectors.items():
            known, reason = self._noted[key], self.held.reason(key)
            ready = projector.ready and not reason
            progress = known._replace(ready=ready, point=projector.point, held=reason)
            if progress != known and await self._note(key, known, progress):
                self.held.log(key, known.held, reason)
                self._noted[key] = progress

    async def note_stale(self, name: str, build: ViewBuild) -> None:
        """Note that a build, kept here or not, must be built anew."""
        key, known = (name, build.number), build.progress(self._partition)
        if known.stale:
            return
        stale = known._replace(stale=True)
        if not await self._note(key, known, stale):
            raise ServerUnavailable(f"view {name}: another owner notes its progress")
        if self._noted.get(key) == known:
            self._noted[key] = stale

    async def _note(self, key: BuildKey, known: BuildProgress, progress: BuildProgress) -> bool:
        noted = await self._views.note_progress(*key, self._partition, known, progress)
        if noted:
            self.changed_at = self._clock.steady()
        return noted
