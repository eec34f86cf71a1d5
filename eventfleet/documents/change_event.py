"""Makes the events of changes, and refuses those that stores or topics can't keep."""

from typing import Any

import msgspec
from msgspec.structs import replace

from eventfleet.documents.bson_size import MAX_BSON_BYTES, bson_size
from eventfleet.documents.change import Change, to_event
from eventfleet.documents.document_codec import check_json
from eventfleet.documents.errors import InvalidDocument
from eventfleet.topics.codec import SMALL_EVENT_BYTES, decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord

MAX_STORED_BYTES = MAX_BSON_BYTES - 16_384
"""The most that a document, or the payload of an event, has as it is stored; ids come on top."""
MOST_BSON_PER_JSON = 8
"""No value has more bytes in BSON than this many times its bytes in JSON."""
SAFE_JSON_BYTES = MAX_STORED_BYTES // MOST_BSON_PER_JSON


def make_change_event(change: Change, collection: str, type: str) -> tuple[EventRecord, int]:
    """Return the event that keeps a change, and its bytes.

    InvalidDocument: stores or topics can't keep it.
    """
    event = to_event(change, collection, type)
    value = encode(event)
    if len(value) > SMALL_EVENT_BYTES:
        check_json(event.data)
        check_stored_size(collection, event.aggregate_id, "the change", event.data)
    try:
        decode(value if len(value) <= SMALL_EVENT_BYTES else encode(replace(event, data={})))
    except InvalidRecord as error:
        raise InvalidDocument(error.field, error.reason) from None
    return event, len(value)


def check_stored_size(collection: str, id: Any, what: str, value: dict[str, Any]) -> None:
    """InvalidDocument: a document, or its change, has more than MAX_STORED_BYTES."""
    if len(msgspec.json.encode(value)) > SAFE_JSON_BYTES:
        refuse_size(collection, id, what, bson_size(value), MAX_STORED_BYTES)


def refuse_size(collection: str, id: Any, what: str, size: int, limit: int) -> None:
    """InvalidDocument: the size is beyond the limit."""
    if size > limit:
        raise InvalidDocument(
            "document",
            f"{collection} {str(id)!r}: {what} has {size} bytes, the limit is {limit}: keep large"
            " values elsewhere, or divide the document",
        )
