"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from eventfleet.web.access import (
    UNRESTRICTED,
    Access,
    Grant,
    LocalAccess,
    TokenAccess,
)
from eventfleet.web.application import Application
from eventfleet.web.context import DomainServices, Limits
from eventfleet.web.key_file import InvalidKeyFile, KeyFile, load_key
from eventfleet.web.problems import RequestRefused

__all__ = [
    "UNRESTRICTED",
    "Access",
    "Application",
    "DomainServices",
    "Grant",
    "InvalidKeyFile",
    "KeyFile",
    "Limits",
    "LocalAccess",
    "RequestRefused",
    "TokenAccess",
    "load_key",
]
