"""The HTTP service: an ASGI application over the commands and queries of some domains."""

from service.http.access import KeyRefused, Tokens, read_key
from service.http.application import application
from service.http.served import Limits, Served

__all__ = ["KeyRefused", "Limits", "Served", "Tokens", "application", "read_key"]
