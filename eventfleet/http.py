"""Serving commands and queries over HTTP inside an application of your own.

async with http_application(load_settings(), domains) as app:
    own.mount("/events", app)

Without an `Access` of your own, the settings decide who may do what.
`examples/own_application.py` is a complete application.
"""

from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.http_server import http_application
from eventfleet.runtime.settings import load_settings
from eventfleet.web import (
    UNRESTRICTED,
    Access,
    Application,
    Grant,
    KeyFile,
    LocalAccess,
    RequestRefused,
    TokenAccess,
    load_key,
)
from eventfleet.web.problems import SCOPE_MISSING, TOKEN_REFUSED

__all__ = [
    "SCOPE_MISSING",
    "TOKEN_REFUSED",
    "UNRESTRICTED",
    "Access",
    "Application",
    "Grant",
    "KeyFile",
    "LocalAccess",
    "RequestRefused",
    "TokenAccess",
    "http_application",
    "load_key",
    "load_settings",
    "select_domains",
]
