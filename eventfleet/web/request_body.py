"""The JSON body of a request: received in time and within the limits, and parsed."""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from eventfleet.service.shares import HeldShare
from eventfleet.topics.codec import parse
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.json_structure import count_values
from eventfleet.web.bodies import JSON
from eventfleet.web.context import RequestContext
from eventfleet.web.problems import BODY_LATE, NOT_JSON, TOO_LARGE, RequestRefused, invalid
from eventfleet.web.requests import raw_header

QUICK_SECONDS = 0.01
VALUE_BYTES = 128
"""The memory that one parsed value takes, about and at most."""


async def json_object(
    context: RequestContext, held: HeldShare, *, or_empty: bool = False
) -> dict[str, Any]:
    """Receives the body into the memory that the request holds. RequestRefused: it is too large,
    too late, or no JSON object.

    With `or_empty` an empty body is `{}`, which needs no Content-Type, unless a web page sends it.
    """
    request = context.request
    media_type = (raw_header(request, "content-type") or "").partition(";")[0].strip().lower()
    may_lack_type = or_empty and not media_type and raw_header(request, "origin") is None
    if media_type != JSON and not may_lack_type:
        raise _no_json(media_type)
    body = await _receive_in_time(context, held)
    if or_empty and not body:
        return {}
    if media_type != JSON:
        raise _no_json(media_type)
    _check_values(count_values(body), context.limits.body_values, held)
    try:
        data = parse(body)
    except InvalidRecord as error:
        field = "body" if error.field == "value" else error.field
        raise invalid(field, error.reason) from None
    if not isinstance(data, dict):
        raise invalid("body", "is not a JSON object")
    return data


def _no_json(media_type: str) -> RequestRefused:
    return RequestRefused(NOT_JSON, f"the Content-Type is {media_type or 'absent'}, not {JSON}")


async def _receive_in_time(context: RequestContext, held: HeldShare) -> bytes:
    """Receives the body; the time that it takes is not taken from what comes after it."""
    began = context.timeout.time()
    try:
        body = await _receive(context.request, context.limits.body_bytes, held)
    except asyncio.CancelledError:
        if not context.timeout.expired:
            raise
    else:
        if (elapsed := context.timeout.time() - began) > QUICK_SECONDS:
            context.timeout.extend(elapsed)
        return body
    detail = f"the body was not complete after {context.limits.timeout_seconds:g} s"
    raise RequestRefused(BODY_LATE, detail)


async def _receive(request: Request, limit_bytes: int, held: HeldShare) -> bytes:
    length = raw_header(request, "content-length") or ""
    _check_size(int(length) if length.isdecimal() else 0, limit_bytes)
    chunks, size, more = list[bytes](), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        _check_size(size, limit_bytes)
        held.take(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise RequestRefused(TOO_LARGE, f"the limit is {limit_bytes} bytes")


def _check_values(count: int, limit: int, held: HeldShare) -> None:
    if count > limit:
        raise invalid("body", f"has {count} values; the limit is {limit}")
    held.take(count * VALUE_BYTES)
