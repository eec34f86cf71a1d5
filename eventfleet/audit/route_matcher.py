"""Finds the routes that an event must have gone."""

from collections.abc import Sequence
from typing import Any

from eventfleet.audit.report import AuditReport
from eventfleet.audit.rows import EventInStore
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.topics.event import EventRecord

UNKNOWN_ROUTES = "events of which a route or upcaster raised"


class RouteMatcher:
    """Matches events with a domain's routes; `copies` numbers their topics."""

    def __init__(self, domain: Domain[Any], copies: Sequence[str], report: AuditReport) -> None:
        self._domain, self._report = domain, report
        self._numbers = {topic: number for number, topic in enumerate(copies)}

    def match(self, event: EventRecord) -> int:
        """Return the matching routes as bits; those that raise are reported and left out."""
        routes = self._domain.routes_for(event.type)
        if not routes:
            return 0
        try:
            given = self._domain.for_routes(event)
        except Exception:  # a problem of the event, which the fold reports
            self._report.count_unjudged(UNKNOWN_ROUTES)
            return 0
        matching = 0
        for route in routes:
            try:
                matching |= route.takes(given) << self._numbers[route.to]
            except Exception as error:
                fault = f"{name_of(event)}: the route to {route.to} raised {describe_error(error)}"
                self._report.add_problem("route", event.aggregate_id, fault)
                self._report.count_unjudged(UNKNOWN_ROUTES)
        return matching


def name_of(event: EventRecord | EventInStore) -> str:
    """Return the name of an event in findings."""
    key = event.id if isinstance(event, EventRecord) else event.event_id
    return f"version {event.version} (event {key})"
