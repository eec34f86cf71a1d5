"""The check before a deployment: does this code, with these settings, fit what is stored?"""

from eventfleet.check.report import CheckReport, Finding, Kind

__all__ = ["CheckReport", "Finding", "Kind"]
