"""Runs the conditions of a domain's routes on each event, as relay does."""

from typing import Any

from eventfleet.check.parked_check import RoleFaults
from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.check.role_entries import RoleEntries
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error, error_key
from eventfleet.model.views import ProjectedEvent
from eventfleet.topics.event import EventRecord

ROLE = "relay"
CORRECT_WHEN = (
    "correct `when`: it gets every event of the route's types; `event.data` is of the payload's "
    "class: `event.data.amount`"
)


class RouteCheck:
    """Finds conditions that raise, or whose answer is none."""

    def __init__(self, domain: Domain[Any], report: CheckReport, faults: RoleFaults) -> None:
        self._domain, self._report, self._faults = domain, report, faults
        self._entries = RoleEntries()

    def begin(self, entries: RoleEntries) -> None:
        """Go on to an aggregate."""
        self._entries = entries

    def check(self, event: EventRecord) -> None:
        """Run the conditions on an event. One that can't be upcast is found by its fold."""
        routes = self._domain.routes_for(event.type)
        if not routes or event.discarded or self._entries.passes_over(ROLE, event.version):
            return
        try:
            given = self._domain.for_routes(event)
        except Exception as error:
            self._faults.add(ROLE, event.version, describe_error(error))
            return
        for route in routes:
            self._run(route, given)

    def _run(self, route: Route, event: ProjectedEvent) -> None:
        try:
            route.takes(event)
        except Exception as error:
            detail = describe_error(error, route.when)
            self._faults.add(ROLE, event.version, detail)
            where = f"route to {route.to}, event {event.type}"
            place = event.aggregate_id, event.version
            found = Finding(Kind.ROUTE, where, detail, CORRECT_WHEN, 1, "events", *place)
            self._report.add(found, error_key(error, route.when))
