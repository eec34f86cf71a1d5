"""The audit: do the invariants hold of what is stored and of what has left?"""

from eventfleet.audit.auditor import Auditor
from eventfleet.audit.report import AuditReport, Violation

__all__ = ["AuditReport", "Auditor", "Violation"]
