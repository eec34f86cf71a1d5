"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from eventfleet.web.access import ANYONE, Access, Grant, KeyRefused, Local, Tokens, read_key
from eventfleet.web.application import Application
from eventfleet.web.context import Limits, Served
from eventfleet.web.problems import Refused

__all__ = [
    "ANYONE",
    "Access",
    "Application",
    "Grant",
    "KeyRefused",
    "Limits",
    "Local",
    "Refused",
    "Served",
    "Tokens",
    "read_key",
]
