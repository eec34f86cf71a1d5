"""The audit: do the invariants hold of what is stored and of what has left?"""

from service.audit.auditor import Auditor
from service.audit.report import AuditReport, Violation

__all__ = ["AuditReport", "Auditor", "Violation"]
