"""The audit verifies that stored and published events satisfy the invariants."""

from eventfleet.audit.auditor import Auditor
from eventfleet.audit.report import AuditReport, Observation, Violation

__all__ = ["AuditReport", "Auditor", "Observation", "Violation"]
