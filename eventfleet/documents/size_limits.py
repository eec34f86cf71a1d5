"""The most bytes that stores keep of a document, or of its change."""

from typing import Any

import msgspec

from eventfleet.documents.bson_size import MAX_BSON_BYTES, bson_size
from eventfleet.documents.errors import InvalidDocument

MAX_STORED_BYTES = MAX_BSON_BYTES - 16_384
"""The most that a document, or the payload of an event, has as it is stored; ids come on top."""
MOST_BSON_PER_JSON = 8
"""No value has more bytes in BSON than this many times its bytes in JSON."""
SAFE_JSON_BYTES = MAX_STORED_BYTES // MOST_BSON_PER_JSON


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
