"""Opaque cursors of paged listings: where the next page begins, and the listing they belong to."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import msgspec

from eventfleet.stores.errors import InvalidCursor

T = TypeVar("T")

MAX_COUNT = 2**62
"""More than any log counts to, and far enough from 64 bits for a page's end to be added."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Offset = Annotated[int, msgspec.Meta(ge=-1, le=MAX_COUNT)]


class PlacedEvent(Protocol):
    """The part of a placed event that says where it is."""

    @property
    def position(self) -> str | None: ...
    @property
    def version(self) -> int: ...


class FeedPoint(NamedTuple):
    """The point to which a feed has read one partition: everything up to here has been read."""

    partition: Count
    epoch: Count
    offset: Offset
    version: Count

    @classmethod
    def start(cls, partition: int) -> "FeedPoint":
        """Return the point before a partition's first event."""
        return cls(partition, 0, -1, 0)

    @classmethod
    def of(cls, event: PlacedEvent) -> "FeedPoint":
        """Return the point of a placed event. ValueError: it has no position."""
        epoch, partition, offset = (event.position or "").split("-")
        return cls(int(partition), int(epoch), int(offset), event.version)


def encode_cursor(listing: str, value: Any) -> str:
    """Encode a value that JSON can hold, and its listing's name, as a cursor."""
    return urlsafe_b64encode(msgspec.json.encode((listing, value))).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str, kind: type[T]) -> T:
    """Decode a cursor to its value. InvalidCursor: the cursor is not one of this listing."""
    try:
        packed = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        name, value = msgspec.json.decode(packed, type=tuple[str, msgspec.Raw])
        if name == listing:
            return msgspec.json.decode(value, type=kind)
    except (ValueError, RecursionError):
        pass
    raise InvalidCursor(f"{cursor!r} is not a cursor of {listing}")


def is_cursor(text: str) -> bool:
    """Return whether a text is a cursor of some listing."""
    try:
        packed = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        return bool(msgspec.json.decode(packed, type=tuple[str, msgspec.Raw]))
    except (ValueError, RecursionError):
        return False


def decode_feed_cursor(
    listing: str, cursor: str, epoch: int, partitions: Collection[int]
) -> list[FeedPoint]:
    """Decode a feed's cursor to one point for each partition that it has reached.

    InvalidCursor also for a partition or an epoch that the domain does not have, and for a
    partition that is named twice: each costs the store a query.
    """
    points = decode_cursor(listing, cursor, list[FeedPoint]) if cursor else []
    named = {point.partition for point in points}
    if (
        len(named) < len(points)
        or not named <= set(partitions)
        or any(point.epoch > epoch for point in points)
    ):
        raise InvalidCursor(f"{cursor!r} is not a cursor of {listing}")
    return points
