"""FeedPlace: where a reader of a domain's feed goes on, and its cursor."""

from typing import NamedTuple

from eventfleet.stores.cursors import Count, FeedPoint, Offset, decode_cursor, encode_cursor


class FeedPlace(NamedTuple):
    """The place of a reader that has all events up to `points`, one for each partition.

    It belongs to one incarnation of the domain's store.
    """

    incarnation: str
    points: tuple[FeedPoint, ...]

    def encode(self, domain: str) -> str:
        """Return the cursor of this place."""
        points = [(point.epoch, point.offset, point.version) for point in self.points]
        return encode_cursor(_listing(domain), (self.incarnation, points))

    @classmethod
    def decode(cls, domain: str, cursor: str) -> "FeedPlace":
        """Decode a cursor. InvalidCursor: it is not one of this domain's feed."""
        incarnation, points = decode_cursor(
            _listing(domain), cursor, tuple[str, list[tuple[Count, Offset, Count]]]
        )
        return cls(incarnation, tuple(FeedPoint(p, *rest) for p, rest in enumerate(points)))

    def is_within(self, other: "FeedPlace") -> bool:
        """Return whether a reader at the other place has all that one here has."""
        return all(mine <= its for mine, its in zip(self.points, other.points, strict=True))

    def moved(self, point: FeedPoint) -> "FeedPlace":
        """Return the place after an event at a point."""
        at = point.partition
        return FeedPlace(self.incarnation, (*self.points[:at], point, *self.points[at + 1 :]))


def _listing(domain: str) -> str:
    return f"{domain}.feed events"
