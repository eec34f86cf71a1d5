"""The audit: do the invariants hold of what is stored and of what has left?"""

from eventfleet.service.audit.auditor import Auditor
from eventfleet.service.audit.report import AuditReport, Violation

__all__ = ["AuditReport", "Auditor", "Violation"]
