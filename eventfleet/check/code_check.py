"""Runs all code of a domain that the fleet runs on stored events, aggregate by aggregate.

Upcasters, `evolve`, the snapshot rule, conditions of routes and functions of views are run;
`decide` is not, since it takes commands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from eventfleet.audit.view_comparison import ViewComparison
from eventfleet.check.fold_check import FoldCheck
from eventfleet.check.parked_check import RoleFaults
from eventfleet.check.report import CheckReport
from eventfleet.check.role_entries import RoleEntries
from eventfleet.check.route_check import RouteCheck
from eventfleet.check.view_check import ViewCheck
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.model.typed_decoder import make_typed_decoder
from eventfleet.roles.projected_reader import PROJECTED_FIELDS
from eventfleet.stores.contracts import Snapshot
from eventfleet.topics.codec import encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

NO_DECIDE = "`decide` was not run: it takes commands, and none are stored"
UNREAD = "can't be read"


class CodeCheck:
    """Checks one domain's code; it holds one aggregate.

    `comparisons`: by view, those with the live builds.
    """

    def __init__(
        self,
        domain: Domain[Any],
        report: CheckReport,
        partitions: int,
        comparisons: Mapping[str, ViewComparison] | None = None,
    ) -> None:
        self._domain, self._report, self._partitions = domain, report, partitions
        self._faults = RoleFaults(report)
        self._fold = FoldCheck(domain, report, self._faults)
        self._routes = RouteCheck(domain, report, self._faults)
        compared = comparisons or {}
        self._views = [
            ViewCheck(view, report, self._faults, compared.get(view.name)) for view in domain.views
        ]
        self._decode = make_typed_decoder(domain, PROJECTED_FIELDS)
        self._version = 0

    def begin(
        self,
        aggregate_id: str,
        snapshots: Sequence[Snapshot] = (),
        entries: RoleEntries | None = None,
    ) -> None:
        """Go on to the next aggregate, with its stored snapshots of the declared shape."""
        self._version, entries = 0, entries or RoleEntries()
        self._faults.begin(entries.parked)
        self._fold.begin(aggregate_id, snapshots)
        self._routes.begin(entries)
        partition = partition_of(aggregate_id, self._partitions)
        for view in self._views:
            view.begin(aggregate_id, partition, entries)

    def add(self, event: EventRecord) -> None:
        """Check the next event; `parked` ones come last."""
        gap = event.version != self._version + 1
        self._version = event.version
        self._fold.add(event)
        if gap:
            self._skip_views("an event is missing before it")
        self._project(event)
        self._routes.check(event)

    def _project(self, event: EventRecord) -> None:
        """Apply an event to the views; append reads the payload of one that has no position."""
        try:
            given = event if event.discarded else self._as_projected(event)
        except Exception as error:
            detail = str(error) if isinstance(error, InvalidRecord) else describe_error(error)
            if event.position is None and not self._domain.synchronous:
                self._faults.add("append", event.version, detail)
            self._skip_views(detail)
            return
        for view in self._views:
            view.apply(given, discarded=event.discarded)

    def _as_projected(self, event: EventRecord) -> Any:
        """Return an event as project gives it to views: with its payload, and few other fields."""
        given: Any = self._decode(encode(event))
        if type(given) is not EventRecord:
            return given
        payload: Any = self._domain.payload(event)
        return replace(event, data=payload)

    def skip(self) -> None:
        """Pass over events that can't be read: what follows can't be folded."""
        self._fold.skip()
        for role in ("append", "snapshot", "relay"):
            self._faults.add(role, self._version + 1, UNREAD)
        self._skip_views(UNREAD, self._version + 1)

    def _skip_views(self, detail: str, version: int = 0) -> None:
        for view in self._views:
            view.skip(version or self._version, detail)

    def end(self) -> None:
        """End the aggregate."""
        self._fold.end()
        for view in self._views:
            view.end()
        self._faults.end()

    def finish(self) -> None:
        """End the check."""
        for view in self._views:
            view.finish()
        if self._report.events:
            self._report.note(NO_DECIDE, int(self._domain.synchronous))
