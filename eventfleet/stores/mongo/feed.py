"""Reading a whole domain by position, a few ranges of the index per partition.

A partition's events are placed in the order of position and version, so whatever is placed later
lies behind the point that a reader has come to.
"""

from collections import deque
from collections.abc import Iterator

from eventfleet.stores.contracts import Page
from eventfleet.stores.cursors import FeedPoint, decode_cursor, encode_cursor
from eventfleet.stores.mongo.client import Collection
from eventfleet.stores.mongo.documents import Document, to_event
from eventfleet.stores.mongo.domain_metadata import DomainMetadata
from eventfleet.stores.mongo.operation import operation
from eventfleet.topics.event import EventRecord

IN_ORDER = [("offset", 1), ("version", 1)]


class DomainFeed:
    """Pages of one domain's placed events."""

    def __init__(self, domain: str, events: Collection, registry: DomainMetadata) -> None:
        self._domain = domain
        self._listing = f"{domain}.feed"
        self._events = events
        self._registry = registry

    async def page(self, cursor: str, limit: int) -> Page:
        """Partitions that a full page left out come first in the next one."""
        points = decode_cursor(self._listing, cursor, list[FeedPoint]) if cursor else []
        epoch, partitions = await self._registry.extent()
        known = {point.partition for point in points}
        waiting = deque([*points, *(FeedPoint.start(p) for p in partitions if p not in known)])
        served, events = list[FeedPoint](), list[EventRecord]()
        with operation(self._events):
            while waiting and len(events) < limit:
                point = waiting.popleft()
                found = await self._after(point, epoch, limit - len(events))
                events += found
                served.append(FeedPoint.of(found[-1]) if found else point)
        return Page(events, encode_cursor(self._listing, [*waiting, *served]))

    async def _after(self, point: FeedPoint, newest: int, limit: int) -> list[EventRecord]:
        """The next events of a partition, fewer than there are at a gap; none only at its end."""
        for epoch in range(point.epoch, newest + 1):
            start = point if epoch == point.epoch else FeedPoint(point.partition, epoch, -1, 0)
            if seen := await self._read(start, epoch, limit):
                # While one range was read, events may have been placed in those before it: but
                # all that lies below an event which was seen is there by now.
                end = FeedPoint.of(seen[-1])
                again = await self._read(start, epoch, limit)
                return [event for event in again if FeedPoint.of(event) <= end]
        return []

    async def _read(self, start: FeedPoint, epoch: int, limit: int) -> list[EventRecord]:
        events: list[EventRecord] = []
        for beyond, last in _ranges(start, limit):
            at = {"epoch": epoch, "partition": start.partition} | beyond
            found = self._events.find(at).sort(IN_ORDER).limit(limit - len(events))
            events += [to_event(self._domain, one) for one in await found.to_list(None)]
            if len(events) == limit or (events and last):
                break
        return events


def _ranges(start: FeedPoint, limit: int) -> Iterator[tuple[Document, bool]]:
    """What lies behind a point, and whether that is enough where it holds anything.

    Bounded first: some servers read a range whole, whatever the limit. Its end is left out: some
    lose what is equal to an upper bound that is not the index's last key.
    """
    end = start.offset + 1 + limit
    yield {"offset": start.offset, "version": {"$gt": start.version}}, False
    yield {"offset": {"$gt": start.offset, "$lt": end}}, True
    yield {"offset": {"$gte": end}}, True
