"""BuildRedrive: what a redrive of one aggregate comes to, in each build of a view that parks it."""

from collections.abc import Collection
from typing import Any

from eventfleet.model.views import View
from eventfleet.roles.build_parking import ParkedFault, build_name
from eventfleet.roles.poison_events import RaisedOn
from eventfleet.roles.refolded_aggregate import RefoldedAggregate
from eventfleet.topics.parked import Discard, ParkedAggregate


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
        self.corrected: list[tuple[tuple[str, int], RefoldedAggregate]] = []

    def add(
        self, key: tuple[str, int], rows: RefoldedAggregate, done: int, failed: RaisedOn | None
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
