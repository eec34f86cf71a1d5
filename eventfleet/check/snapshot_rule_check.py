"""Runs a domain's snapshot rule on each state, as the role snapshot may."""

from datetime import UTC, datetime
from typing import Any

from eventfleet.check.parked_check import RoleFaults
from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error, error_key
from eventfleet.snapshot_rules.causes import cause
from eventfleet.states.live_state import LiveState

CORRECT_RULE = "correct the snapshot rule: it must hold, or not, for every aggregate"


class SnapshotRuleCheck:
    """Runs the rule where it may be asked: after each event, and as time passes after the last.

    After a fault the aggregate's later states are passed over, as the role does.
    """

    def __init__(self, domain: Domain[Any], report: CheckReport, faults: RoleFaults) -> None:
        self._rule, self._report, self._faults = domain.snapshot, report, faults
        self._parked = False

    def begin(self) -> None:
        """Go on to the next aggregate."""
        self._parked = False

    def check(self, live: LiveState, moment: datetime) -> None:
        """Run the rule on a state at a moment."""
        rule = self._rule
        if rule is None or self._parked:
            return
        now = max(moment, live.time or moment)
        try:
            if live.is_due(rule, now):
                cause(rule, live.since_snapshot(now))
                live.record_snapshot(now)
        except Exception as error:
            self._fail(live, error)

    def end(self, live: LiveState) -> None:
        """Run a rule on time as it is now."""
        if self._rule and self._rule.needs_clock:
            self.check(live, datetime.now(UTC))

    def _fail(self, live: LiveState, error: Exception) -> None:
        self._parked = True
        called = self._rule and self._rule.holds
        detail, key = describe_error(error, called), error_key(error, called)
        place = live.aggregate_id, live.version
        self._faults.add("snapshot", live.version, detail)
        self._report.add(
            Finding(
                Kind.SNAPSHOT_RULE, "snapshot rule", detail, CORRECT_RULE, 1, "aggregates", *place
            ),
            key,
        )
