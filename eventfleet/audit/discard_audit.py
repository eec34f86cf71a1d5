"""Compares the marks of discarded events with the decisions of operators that are recorded."""

from collections.abc import Sequence

from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import name_of
from eventfleet.audit.rows import AnyRow, DiscardDecision, EventInStore
from eventfleet.audit.scope import AuditScope
from eventfleet.audit.spool import Spool
from eventfleet.stores.contracts import DomainStores, LogReader
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.parked import DiscardedEvent

MARKING_ROLES = ("append", "snapshot")
"""A discard in these marks the event: all states and views are folded without it."""


class DiscardAudit:
    """Finds marks without a decision, and decisions without a mark.

    Both are kept until `confirm` has read them again: a decision may be made meanwhile.
    """

    def __init__(self, stores: DomainStores, report: AuditReport) -> None:
        self._report = report
        self._events, self._letters = stores.events, stores.dead_letters
        self._unexplained: dict[EventKey, EventInStore] = {}
        self._unmarked: dict[EventKey, DiscardDecision] = {}

    async def read(self, scope: AuditScope, reader: LogReader, spool: Spool[AnyRow]) -> None:
        """Read the decisions, which the dead-letter store and `<domain>.parked` have."""
        for role in MARKING_ROLES if self._letters else ():
            assert self._letters
            self._add(role, await self._letters.discarded_by(role), scope, spool)
        for partition in await reader.watermarks(scope.topics.parked):
            entries = await TopicParkedLog(scope.topics, reader).load_all(partition)
            for role in MARKING_ROLES:
                if role in entries:
                    self._add(role, entries[role].discarded, scope, spool)

    def _add(
        self,
        role: str,
        decided: Sequence[DiscardedEvent],
        scope: AuditScope,
        spool: Spool[AnyRow],
    ) -> None:
        for each in decided:
            spool.add(_row(each))
        if role == "append":
            scope.add_discarded(decided)

    def judge(self, stored: EventInStore, decision: DiscardDecision | None) -> None:
        """Judge an event's mark."""
        key = EventKey(stored.aggregate_id, stored.event_id)
        if stored.discarded and decision is None:
            self._unexplained[key] = stored
        elif decision and not stored.discarded:
            self._unmarked[key] = decision

    async def confirm(self) -> None:
        """Report what is still so."""
        if self._unexplained:
            await self._confirm_unexplained()
        if self._unmarked:
            for key, event in (await self._events.find(self._unmarked)).items():
                if not event.discarded:
                    self._report_unmarked(event, self._unmarked[key])
        self._unexplained, self._unmarked = {}, {}

    async def _confirm_unexplained(self) -> None:
        decided = set[EventKey]()
        for role in MARKING_ROLES if self._letters else ():
            assert self._letters
            found = await self._letters.discarded(role, {k.aggregate_id for k in self._unexplained})
            decided |= {EventKey(each.aggregate_id, each.event_id) for each in found}
        for key, stored in self._unexplained.items():
            if key not in decided:
                fault = (
                    f"{name_of(stored)} is marked as discarded, and no operator has decided so: "
                    "states and views are folded without it"
                )
                self._report.violate(1, key.aggregate_id, fault)

    def _report_unmarked(self, event: EventRecord, decision: DiscardDecision) -> None:
        fault = (
            f"{name_of(event)} is not marked as discarded, as {decision.by} has decided: states "
            "and views are folded with it"
        )
        self._report.violate(3, event.aggregate_id, fault)


def _row(event: DiscardedEvent) -> DiscardDecision:
    place = event.aggregate_id, event.event_id
    return DiscardDecision(*place, event.version, event.discard.by)
