"""Serving commands and queries over HTTP inside an application of your own.

async with http_application(load_settings(), domains) as app:
    own.mount("/events", app)

Without an `Access` of your own, the settings decide who may do what. An Operation of your own is
served beside those of all domains, with their access control, limits and description, and a
FeedPath is one more path of a followed domain's sockets: `examples/chat/rooms.py` has both.
`examples/own_application.py` is a complete application.
"""

from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.http_server import http_application
from eventfleet.runtime.settings import load_settings
from eventfleet.stores.contracts.views import AggregateSelection
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
from eventfleet.web.bodies import ResponseBody
from eventfleet.web.context import RequestContext
from eventfleet.web.feed_sockets import FeedPath
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import QueryParameters
from eventfleet.web.preconditions import etag
from eventfleet.web.problems import REPLAY_FAILED, SCOPE_MISSING, TOKEN_REFUSED, invalid
from eventfleet.web.requests import path_part
from eventfleet.web.responses import json_response

__all__ = [
    "REPLAY_FAILED",
    "SCOPE_MISSING",
    "TOKEN_REFUSED",
    "UNRESTRICTED",
    "Access",
    "AggregateSelection",
    "Application",
    "FeedPath",
    "Grant",
    "KeyFile",
    "LocalAccess",
    "Operation",
    "QueryParameters",
    "RequestContext",
    "RequestRefused",
    "ResponseBody",
    "TokenAccess",
    "etag",
    "http_application",
    "invalid",
    "json_response",
    "load_key",
    "load_settings",
    "path_part",
    "select_domains",
]
