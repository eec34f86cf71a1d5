"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from eventfleet.web.access import (
    ANYONE,
    Access,
    Grant,
    KeyRefused,
    LocalAccess,
    TokenAccess,
    read_key,
)
from eventfleet.web.application import Application
from eventfleet.web.context import DomainServices, Limits
from eventfleet.web.problems import RequestRefused

__all__ = [
    "ANYONE",
    "Access",
    "Application",
    "DomainServices",
    "Grant",
    "KeyRefused",
    "Limits",
    "LocalAccess",
    "RequestRefused",
    "TokenAccess",
    "read_key",
]
