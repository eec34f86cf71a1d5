"""Checks one aggregate's stored events and snapshots, in version order."""

from collections.abc import Sequence
from typing import Any

from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import RouteMatcher, name_of
from eventfleet.audit.rows import (
    STATE,
    AnyRow,
    EventInStore,
    FoldedState,
    event_digest,
    state_digest,
)
from eventfleet.audit.spool import Spool
from eventfleet.audit.view_audit import AggregateViews
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.stores.contracts import Snapshot
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, Position

ABOVE_A_FAULT = "snapshots above an event that is missing or can't be folded"
RAISE_STATE_VERSION = "it was altered, or `evolve` was changed: then raise `state_version`"


class Folding:
    """Folds an aggregate's events until one is missing or can't be folded."""

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain
        self._state = domain.state()
        self.version = 0
        self.broken = False

    def fold(self, event: EventRecord) -> str:
        """Fold the next event; return what is wrong with the event itself, or nothing."""
        self.broken = self.broken or event.version != self.version + 1
        self.version = event.version
        try:
            if self.broken and not event.discarded:
                self._domain.payload(event)
            elif not self.broken:
                self._state = self._domain.fold(self._state, event)
        except InvalidRecord as error:
            self.broken = True
            return f"can't be read: {error}"
        except Exception as error:
            self.broken = True
            return f"can't be {self._stage(event)}: {describe_error(error)}"
        return ""

    def skip(self, version: int) -> None:
        """Pass over an event: what follows can't be folded."""
        self.version, self.broken = version, True

    def digest(self) -> bytes:
        """Return the digest of the state; errors of the state's own values pass through."""
        return state_digest(self._domain.dump_state(self._state))

    def _stage(self, event: EventRecord) -> str:
        """Name what failed: an upcaster, or evolve."""
        try:
            self._domain.payload(event)
        except Exception:
            return "upcast"
        return "folded"


class AggregateCheck:
    """Checks an aggregate's versions, positions, folds and snapshots, and adds its rows.

    `snapshots` are the stored ones, in any order.
    """

    def __init__(
        self,
        domain: Domain[Any],
        aggregate_id: str,
        snapshots: Sequence[Snapshot],
        routes: RouteMatcher,
        spool: Spool[AnyRow],
        report: AuditReport,
        views: AggregateViews,
    ) -> None:
        self._id, self._routes, self._spool, self._report = aggregate_id, routes, spool, report
        self._snapshots = sorted(snapshots, key=lambda snapshot: -snapshot.version)
        self._folding, self._views = Folding(domain), views
        self._events = 0
        self._expected = 1
        self._last: Position | None = None
        self._event: EventRecord | None = None

    def add(self, event: EventRecord) -> None:
        """Check the next event."""
        self._events += 1
        self._check_version(event)
        self._check_position(event)
        if fault := self._folding.fold(event):
            self._report.add_problem("event", self._id, f"{name_of(event)} {fault}")
        self._views.add(event)
        self._check_snapshots(event.version)
        if self._event:
            self._add_row(self._event, event)
        self._event = event

    def skip(self, version: int, reason: str) -> None:
        """Pass over an event that the store can't read."""
        self._expected = version + 1
        self._folding.skip(version)
        self._views.skip()
        fault = f"version {version} can't be read from the store: {reason}"
        self._report.add_problem("event", self._id, fault)

    def end(self) -> None:
        """Check what remains after the last event."""
        self._views.end()
        if self._event:
            self._add_row(self._event, None)
        for snapshot in self._snapshots:
            name = f"the snapshot of version {snapshot.version}"
            if snapshot.version > self._folding.version:
                fault = f"{name} is past the last of {self._events} events"
                self._report.violate(3, self._id, fault)
            else:
                self._report.count_unjudged(ABOVE_A_FAULT)

    def _check_version(self, event: EventRecord) -> None:
        expected, before = self._expected, self._event
        self._expected = event.version + 1
        if event.version > expected:
            fault = f"version {expected} is missing, {event.version} follows"
            self._report.violate(2, self._id, fault)
        elif event.version < expected and before:
            fault = f"version {event.version} is stored twice: events {before.id} and {event.id}"
            self._report.violate(2, self._id, fault)

    def _check_position(self, event: EventRecord) -> None:
        if event.position is None:
            return
        position, last = Position.parse(event.position), self._last
        if last and (position.epoch, position.offset) < (last.epoch, last.offset):
            where = f"is at position {position}, before the version below it"
            self._report.violate(2, self._id, f"version {event.version} {where}")
        self._last = position

    def _check_snapshots(self, version: int) -> None:
        """Compare the snapshots of this version with the folded state."""
        while self._snapshots and self._snapshots[-1].version <= version:
            snapshot = self._snapshots.pop()
            if self._folding.broken or snapshot.version < version:
                self._report.count_unjudged(ABOVE_A_FAULT)
                continue
            name = f"the snapshot of version {version}"
            try:
                digest = self._folding.digest()
            except Exception as error:
                fault = f"{name} can't be compared: {describe_error(error)}"
                self._report.add_problem("state", self._id, fault)
                continue
            if digest != state_digest(snapshot.state):
                fault = f"{name} is not the fold of its events: {RAISE_STATE_VERSION}"
                self._report.violate(3, self._id, fault)
            self._spool.add(FoldedState(self._id, STATE, version, digest))

    def _add_row(self, event: EventRecord, following: EventRecord | None) -> None:
        position = event.position or ""
        row = EventInStore(
            self._id,
            event.id,
            event.version,
            position,
            event_digest(event),
            event.schema_version,
            event.type,
            self._routes.match(event),
            bool(following and position and following.position == position),
            event.discarded,
        )
        self._spool.add(row)
