"""BuildParking: the aggregates that project parks, each in the builds that lack its events.

A build whose code raises on an event parks the aggregate for itself: other builds of the view, and
those of other views, have the event. So a build that follows decides nothing about the live one.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from eventfleet.model.views import ProjectedEvent
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import TooManyParked
from eventfleet.topics.parked import ParkedAggregate


class ParkedFault(NamedTuple):
    """An event on which the code of a build raises."""

    build: str
    event: ProjectedEvent
    error: Exception


def build_name(view: str, number: int) -> str:
    """Return the name of a view's build in a parked aggregate."""
    return f"{view}/{number}"


class BuildParking(LoggedParking):
    """The aggregates that project parks in a partition, by build; up to a number in each."""

    def parks(self, build: str, event: ProjectedEvent) -> bool:
        """Return whether a build parks an event."""
        known = self.aggregates.get(event.aggregate_id)
        first = known.builds.get(build) if known else None
        return first is not None and event.version >= first

    def has(self, build: str) -> bool:
        """Return whether a build parks anything."""
        return any(build in each.builds for each in self.aggregates.values())

    def park_in(self, fault: ParkedFault) -> None:
        """Park an event's aggregate at it, in one build. TooManyParked: of the build's."""
        event, known = fault.event, self.aggregates.get(fault.event.aggregate_id)
        builds = known.builds if known else {}
        if fault.build not in builds:
            self._check_number(fault)
        self._park(fault, {**builds, fault.build: event.version})
        if known and known.first == event.version:  # it has failed in another build as well
            parked = self.aggregates[event.aggregate_id]
            self._parked.put(replace(parked, attempts=known.attempts))

    def missing(self, build: str, live: str) -> list[ParkedAggregate]:
        """Return what a build parks and the live one does not, or only from a later version on."""
        return [
            each
            for each in self.aggregates.values()
            if (first := each.builds.get(build)) and not 0 < each.builds.get(live, 0) <= first
        ]

    def settle(
        self, aggregate_id: str, builds: Mapping[str, int], fault: ParkedFault | None = None
    ) -> None:
        """Keep an aggregate parked in these builds, at these versions; in none: it is no longer.

        `fault` is that of the lowest version, where it was tried again.
        """
        known = self.aggregates[aggregate_id]
        if not builds:
            self.end(aggregate_id, known.last)
        elif fault:
            self._park(fault, builds)
        else:
            self._parked.put(_in_builds(known, builds))

    def keep_only(self, builds: Collection[str]) -> None:
        """End what builds park that are not among these.

        An entry that an earlier version of this role has written names no builds: it holds for all.
        """
        for each in list(self.aggregates.values()):
            parked = each.builds or dict.fromkeys(builds, each.first)
            kept = {name: first for name, first in parked.items() if name in builds}
            if kept != each.builds:
                self.settle(each.aggregate_id, kept)

    def _park(self, fault: ParkedFault, builds: Mapping[str, int]) -> None:
        """Park an aggregate in these builds; at the fault's event, unless one parks an earlier."""
        event = fault.event
        if event.version <= min(builds.values()):
            self.park(event, fault.error)
        else:
            self.park_behind(event.aggregate_id, event.version)
        self._parked.put(_in_builds(self.aggregates[event.aggregate_id], builds))

    def _check_room(self, parked: ParkedAggregate) -> None:
        """There is room in each build."""

    def _check_number(self, fault: ParkedFault) -> None:
        build, event = fault.build, fault.event
        if len(self.aggregates) < self._most:
            return
        if sum(build in each.builds for each in self.aggregates.values()) >= self._most:
            parked = self._describe(
                event.aggregate_id, event.version, fault.error, event.id, event.type
            )
            raise TooManyParked(self._role, self._topics.domain, parked, self._most)


def _in_builds(parked: ParkedAggregate, builds: Mapping[str, int]) -> ParkedAggregate:
    """Return an aggregate as it is parked in these builds."""
    first = min(builds.values())
    if first != parked.first:  # what its event is, its next redrive finds
        parked = replace(parked, first=first, event_id="", event_type="", attempts=0)
    return replace(parked, builds=dict(builds))
