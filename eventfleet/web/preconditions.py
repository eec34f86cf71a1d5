"""Preconditions of a request (RFC 9110): the version of an aggregate as its entity tag."""

import re

from starlette.requests import Request

from eventfleet.topics.event import ExpectedVersion
from eventfleet.web.problems import invalid
from eventfleet.web.requests import raw_header

ETAG, IF_MATCH, IF_NONE_MATCH = "ETag", "If-Match", "If-None-Match"
ETAG_PATTERN = '"(0|[1-9][0-9]{0,18})"'
MAX_VERSION = 2**63 - 1

_ETAG = re.compile(ETAG_PATTERN)


def etag(version: int) -> str:
    """Returns the entity tag of an aggregate at a version."""
    return f'"{version}"'


def expected_version(request: Request) -> ExpectedVersion | None:
    """Returns the version that the request demands, or None if it demands none.

    RequestRefused: a header is neither a version as a strong entity tag nor `*`.
    """
    if_match, if_none_match = raw_header(request, IF_MATCH), raw_header(request, IF_NONE_MATCH)
    if if_none_match is not None:
        if if_match is not None:
            raise invalid(IF_NONE_MATCH, f"cannot be combined with {IF_MATCH}")
        if _single(request, IF_NONE_MATCH, if_none_match) != "*":
            raise invalid(IF_NONE_MATCH, "can be * only: the aggregate must have no event yet")
        return 0
    return None if if_match is None else _version(_single(request, IF_MATCH, if_match))


def expecting_header(request: Request) -> str:
    """Returns the name of the header that a request demands a version with."""
    return IF_MATCH if raw_header(request, IF_NONE_MATCH) is None else IF_NONE_MATCH


def _single(request: Request, name: str, value: str) -> str:
    if len(request.headers.getlist(name)) > 1:
        raise invalid(name, "is given more than once")
    return value


def _version(text: str) -> ExpectedVersion:
    if text == "*":
        return "*"
    if found := _ETAG.fullmatch(text):
        if (version := int(found[1])) <= MAX_VERSION:
            return version
        raise invalid(IF_MATCH, f"{text} is beyond a 64-bit integer")
    if text.startswith("W/"):
        raise invalid(IF_MATCH, 'is a weak tag; a strong one is needed, such as "7"')
    if "," in text:
        raise invalid(IF_MATCH, "is a list; an aggregate is at one version: name it alone")
    raise invalid(IF_MATCH, 'is neither * nor a version in double quotes, such as "7"')
