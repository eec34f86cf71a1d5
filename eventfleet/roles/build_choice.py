"""BuildChoice: which builds of views there are, are kept by one owner, begun and made live.

A build that parks what the live one has is held: it is not made live (see HeldBuilds). The live
build of the shape before is kept as the former one, for the owners that declare it when a
deployment is taken back: they bring it up to date and make it live again.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from eventfleet.model.views import View
from eventfleet.roles.build_parking import build_name
from eventfleet.roles.kept_builds import BuildKey, KeptBuilds, ProjectedPartition
from eventfleet.roles.recent_builds import RecentBuilds
from eventfleet.roles.role import PartitionFault
from eventfleet.roles.view_projector import ViewProjector
from eventfleet.roles.view_statistics import ViewStatistics, build_statuses
from eventfleet.stores.contracts.views import ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint

BUILDS_INTERVAL = timedelta(seconds=2)
LEFT_ALONE_INTERVAL = timedelta(minutes=1)


class ChangedView(PartitionFault):
    """A view whose rows changed their shape, but which has the version that it had."""

    def __init__(self, domain: str, view: View[Any]) -> None:
        super().__init__(
            f"project can't go on: view {view.name} of {domain} has the rows of another shape, and "
            f"version {view.version} as before: raise its version, and it is built anew"
        )


class BuildChoice:
    """The choice of one partition's owner; `reached` is how far the partition is projected."""

    def __init__(
        self,
        of: ProjectedPartition,
        kept: KeptBuilds,
        *,
        partitions: int,
        recent_builds: RecentBuilds,
        statistics: ViewStatistics,
    ) -> None:
        self._domain, self._partition, _, self._views, self._parking, self._clock = of
        self._kept, self._partitions = kept, partitions
        self._recent_builds, self._statistics = recent_builds, statistics
        self._others: dict[str, tuple[Sequence[ViewBuild], datetime]] = {}
        self.reached = FeedPoint.start(of.number)

    @property
    def is_due(self) -> bool:
        """True when the builds are to be looked at again."""
        looked_at = self._kept.looked_at
        return looked_at is None or self._clock.steady() - looked_at >= BUILDS_INTERVAL

    async def look(self, since: datetime | None = None, *, begins: bool = True) -> None:
        """Take up the builds that this process can keep; begin one where a view has none.

        They are those of now, or of a moment after `since` and after this owner's last change.
        """
        now = self._kept.looked_at = self._clock.steady()
        since = now if since is None else max(since, self._kept.changed_at)
        while await self._look_once(since, begins):
            since = self._clock.steady()

    async def _look_once(self, since: datetime, begins: bool) -> bool:
        """Look once; return whether a build was begun or made live: then there is more to see."""
        changed = False
        builds = await self._recent_builds.read(since)
        kept: dict[BuildKey, ViewProjector] = {}
        self._kept.read.clear()
        self._kept.held.see(builds)
        for view in self._domain.views:
            of_view = builds.get(view.name, ViewBuilds())
            for build in filter(None, of_view):
                key = view.name, build.number
                if build.shape == view.shape and not self._kept.held.is_stopped(key):
                    kept[key] = self._kept.keep(view, build)
            if (read := of_view.read_by(view.shape)) and (view.name, read.number) in kept:
                self._kept.read.add((view.name, read.number))
            following = [build for build in (of_view.next, of_view.former) if build]
            if own := [each for each in following if self._will_follow(view, each, kept)]:
                changed |= await self._make_live(view, own[0])
            elif begins and self._needs_build(view, of_view):
                tables = [table.name for table in view.tables]
                last = of_view.last_number
                changed |= await self._views.begin(view.name, tables, view.shape, last)
        self._kept.projectors = kept
        await self._leave_builds(builds)
        self._count_builds(builds)
        return changed

    def _will_follow(self, view: View[Any], build: ViewBuild, kept: Container[BuildKey]) -> bool:
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
        left = {build_name(*key) for key in self._kept.projectors}
        for name, of_view in builds.items():
            for build in filter(None, of_view):
                key = name, build.number
                if build is of_view.live or self._kept.held.is_stopped(key):
                    left.add(build_name(*key))
                elif key not in self._kept.projectors and self._parking.has(build_name(*key)):
                    await self._kept.note_stale(name, build)
        self._parking.keep_only(left)

    def _count_builds(self, builds: Mapping[str, ViewBuilds]) -> None:
        """Note in the statistics what is ready here, and how far behind the rest is."""
        known = [build for of_view in builds.values() for build in of_view if build]
        points = [build.progress(self._partition).point for build in known]
        self.reached = max([self.reached, *filter(None, points)])
        kept = self._kept.projectors
        self._statistics.builds[self._partition] = [
            status
            for view in self._domain.views
            for status in build_statuses(
                view.name, builds.get(view.name, ViewBuilds()), kept, self.reached
            )
        ]

    def close(self) -> None:
        """Have the statistics show no builds of this owner."""
        self._statistics.builds.pop(self._partition, None)

    def _needs_build(self, view: View[Any], builds: ViewBuilds) -> bool:
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
