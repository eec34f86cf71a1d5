"""What a program imports to serve commands and queries over HTTP inside its own application.

async with http_application(load_settings(), domains) as app:
    own.mount("/events", app)

`examples/own_application.py` shows one. Without `access` the settings say who may do what.
"""

from eventfleet.service.http import (
    ANYONE,
    Access,
    Application,
    Grant,
    Limits,
    Local,
    Refused,
    Tokens,
)
from eventfleet.service.http.problems import SCOPE, TOKEN
from eventfleet.workers.connect import chosen as chosen_domains
from eventfleet.workers.serve import http_application
from eventfleet.workers.settings import load as load_settings

__all__ = [
    "ANYONE",
    "SCOPE",
    "TOKEN",
    "Access",
    "Application",
    "Grant",
    "Limits",
    "Local",
    "Refused",
    "Tokens",
    "chosen_domains",
    "http_application",
    "load_settings",
]
