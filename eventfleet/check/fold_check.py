"""Folds the events of one aggregate after another as a role would, and compares the states."""

import sys
from collections.abc import Sequence
from typing import Any

from eventfleet.audit.rows import state_digest
from eventfleet.check.parked_check import RoleFaults
from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.check.snapshot_rule_check import SnapshotRuleCheck
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error, error_key
from eventfleet.states.live_state import LiveState, ReplayFailed, reload_state
from eventfleet.stores.contracts import Snapshot
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord

ABOVE_A_FAULT = "snapshots above an event that can't be folded were not compared"
CORRECT_STATE = "correct the types of the State's fields"


class FoldCheck:
    """Checks that a domain's events upcast, decode and fold, and that states survive snapshots.

    Of a changed state it is checked at each power of two of versions, at the last one and wherever
    a snapshot is stored, that a snapshot gives it back. The snapshot rule is run on each state.
    """

    def __init__(self, domain: Domain[Any], report: CheckReport, faults: RoleFaults) -> None:
        self._domain, self._report, self._faults = domain, report, faults
        self._rule = SnapshotRuleCheck(domain, report, faults)
        self._state_name = f"state {domain.state.__name__}"
        self._live = LiveState("", domain.state())
        self._snapshots: dict[int, Snapshot] = {}
        self._broken = False

    def begin(self, aggregate_id: str, snapshots: Sequence[Snapshot] = ()) -> None:
        """Go on to the next aggregate, with its stored snapshots of the declared shape."""
        self._report.aggregates += 1
        self._live, self._broken = LiveState(aggregate_id, self._domain.state()), False
        self._snapshots = {snapshot.version: snapshot for snapshot in snapshots}
        self._rule.begin()

    def add(self, event: EventRecord) -> None:
        """Check the next event. After a fault the aggregate's events are decoded only."""
        self._report.events += 1
        try:
            if not self._broken and event.version != self._live.version + 1:
                self._miss(event)
            if self._broken:
                if not event.discarded:
                    self._domain.payload(event)
                return
            self._live.fold(self._domain, event)
        except ReplayFailed as failure:
            self._fail(event, failure.cause)
            return
        except Exception as error:
            self._fail(event, error)
            return
        self._check_state()
        self._rule.check(self._live, event.time)

    def skip(self) -> None:
        """Pass over events that can't be read: what follows can't be folded."""
        self._broken = True

    def end(self) -> None:
        """Check the state after the last event."""
        if not self._broken and self._live.version & (self._live.version - 1):
            self._survives_snapshot()
        if not self._broken:
            self._rule.end(self._live)
        self._report.note(ABOVE_A_FAULT, len(self._snapshots) if self._broken else 0)

    # Events

    def _miss(self, event: EventRecord) -> None:
        self._broken = True
        self._faults.add("snapshot", event.version, "an event is missing before it")
        self._add_event(
            Kind.VERSION,
            event,
            "versions",
            "an event is missing before this one",
            "find out by `eventfleet audit`; a file must have all events of an aggregate together, "
            "by version",
        )

    def _fail(self, event: EventRecord, error: Exception) -> None:
        self._broken = True
        where = f"event {event.type}, schema version {event.schema_version}"
        kind, advice = self._classify(event, error)
        if kind is Kind.EVENT_TYPE:
            detail, key = "is stored, but not declared", ""
        elif isinstance(error, InvalidRecord):
            detail = key = str(error)
        else:
            called = self._domain.evolve if kind is Kind.EVOLVE else None
            detail, key = describe_error(error, called), error_key(error, called)
        self._faults.add("snapshot", event.version, detail)
        self._add_event(kind, event, where, detail, advice, key)

    def _classify(self, event: EventRecord, error: Exception) -> tuple[Kind, str]:
        """Return the kind of an event's fault, and what to do."""
        version = event.schema_version
        if not isinstance(error, InvalidRecord):
            if self._decodes(event):
                return Kind.EVOLVE, "correct `evolve`: it must fold every stored event"
            return Kind.UPCASTER, f"correct the upcasters from schema version {version} on"
        if error.field == "type":
            return Kind.EVENT_TYPE, "declare it again: stored events are never removed"
        if error.field == "schemaversion":
            return Kind.SCHEMA_VERSION, "newer code has stored it: deploy code that has its schema"
        if version < self._domain.latest_schema_version(event.type):
            return Kind.EVENT, f"correct the upcasters from schema version {version} on"
        return Kind.EVENT, (
            f"add an upcaster from schema version {version}, or give a new field a default"
        )

    def _decodes(self, event: EventRecord) -> bool:
        try:
            self._domain.payload(event)
        except Exception:
            return False
        return True

    def _add_event(
        self, kind: Kind, event: EventRecord, where: str, detail: str, advice: str, key: object = ""
    ) -> None:
        place = event.aggregate_id, event.version
        self._report.add(Finding(kind, where, detail, advice, 1, "events", *place), str(key))

    # States

    def _check_state(self) -> None:
        version = self._live.version
        snapshot = self._snapshots.pop(version, None)
        if (snapshot or not version & (version - 1)) and self._survives_snapshot() and snapshot:
            self._compare(snapshot)

    def _survives_snapshot(self) -> bool:
        """Return whether a snapshot gives the state back."""
        state = self._live.state
        try:
            loaded = reload_state(self._domain, self._live, sys.maxsize)
            if loaded == state:
                return True
        except Exception as error:
            fault = f"can't be saved as a snapshot and read back: {describe_error(error)}"
            self._add_state(Kind.STATE, fault, CORRECT_STATE, error_key(error))
            return False
        if loaded is None:
            fault = "no snapshot can keep it, with a number beyond 64 bits or a NUL in a key"
        else:
            names = [n for n in state.__struct_fields__ if getattr(loaded, n) != getattr(state, n)]
            fault = f"a snapshot gives {_list(names)} back otherwise"
        self._add_state(Kind.STATE, fault, CORRECT_STATE, fault)
        return False

    def _compare(self, snapshot: Snapshot) -> None:
        self._report.snapshots += 1
        folded = self._domain.dump_state(self._live.state)
        if state_digest(folded) == state_digest(snapshot.state):
            return
        names = sorted(
            name
            for name in {*folded, *snapshot.state}
            if state_digest(folded.get(name)) != state_digest(snapshot.state.get(name))
        )
        fault = f"{_list(names)} of a stored snapshot differs from that of its folded events"
        advice = (
            f"if `evolve` was changed, raise `state_version` to {self._domain.state_version + 1}; "
            "if not, the snapshot was altered: see `eventfleet audit`"
        )
        self._add_state(Kind.SNAPSHOT, fault, advice, fault, "snapshots")

    def _add_state(
        self, kind: Kind, fault: str, advice: str, key: str, unit: str = "states"
    ) -> None:
        place = self._live.aggregate_id, self._live.version
        self._report.add(Finding(kind, self._state_name, fault, advice, 1, unit, *place), key)


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
