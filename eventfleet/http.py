"""What a program imports to serve commands and queries over HTTP inside its own application.

async with http_application(load_settings(), domains) as app:
    own.mount("/events", app)

`examples/own_application.py` shows one. Without `access` the settings say who may do what.
"""

from eventfleet.runtime.connections import chosen as chosen_domains
from eventfleet.runtime.http_server import http_application
from eventfleet.runtime.settings import load as load_settings
from eventfleet.web import (
    ANYONE,
    Access,
    Application,
    Grant,
    Limits,
    LocalAccess,
    RequestRefused,
    TokenAccess,
)
from eventfleet.web.problems import SCOPE, TOKEN

__all__ = [
    "ANYONE",
    "SCOPE",
    "TOKEN",
    "Access",
    "Application",
    "Grant",
    "Limits",
    "LocalAccess",
    "RequestRefused",
    "TokenAccess",
    "chosen_domains",
    "http_application",
    "load_settings",
]
