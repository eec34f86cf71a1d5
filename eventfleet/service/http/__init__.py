"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from eventfleet.service.http.access import (
    ANYONE,
    Access,
    Grant,
    KeyRefused,
    Local,
    Tokens,
    read_key,
)
from eventfleet.service.http.application import Application
from eventfleet.service.http.problems import Refused
from eventfleet.service.http.served import Limits, Served

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
