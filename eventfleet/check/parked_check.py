"""Tells whether the code at hand can handle what the roles park of an aggregate."""

from collections.abc import Sequence

from eventfleet.check.report import CheckReport, Finding, Kind, ParkedOutcome
from eventfleet.check.role_entries import RoleEntry

FOLDING_ROLES = ("snapshot", "project")
"""A redrive of these begins at an aggregate's first event, or at a snapshot."""
RETRIED = "workers that start with it try again by themselves"


class RoleFaults:
    """The first fault of each role in the aggregate at hand that keeps a redrive from working."""

    def __init__(self, report: CheckReport) -> None:
        self._report = report
        self._parked: dict[str, RoleEntry] = {}
        self._faults: dict[str, str] = {}

    def begin(self, parked: Sequence[RoleEntry]) -> None:
        """Go on to an aggregate of which roles park this."""
        self._parked, self._faults = {each.role: each for each in parked}, {}

    def add(self, role: str, version: int, detail: str) -> None:
        """Add what a role fails at."""
        parked = self._parked.get(role)
        if parked and (role in FOLDING_ROLES or version >= parked.version):
            self._faults.setdefault(role, f"version {version}: {detail}")

    def end(self) -> None:
        """Add to the report which roles can go on and which can't."""
        for role, parked in self._parked.items():
            fault = self._faults.get(role, "")
            place = parked.aggregate_id, parked.version
            self._report.add_parked(ParkedOutcome(role, *place, fault))
            if fault:
                where = f"{role} parks {parked.aggregate_id!r} from version {parked.version} on"
                detail = f"this code can't handle it either: {fault}"
                advice = "correct the code; or discard the event, after the deployment"
                self._report.add(Finding(Kind.PARKED, where, detail, advice, 1, "", *place))
            else:
                text = f"{role} parks what this code can handle: {RETRIED}"
                self._report.note(text)
