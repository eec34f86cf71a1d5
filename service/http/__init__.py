"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from service.http.access import ANYONE, Access, Grant, KeyRefused, Local, Tokens, read_key
from service.http.application import Application
from service.http.problems import Refused
from service.http.served import Limits, Served

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
