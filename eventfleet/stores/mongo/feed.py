"""Reads a whole domain by position, in a few ranges of the index per partition.

A partition's events are placed in the order of position and version, so whatever is placed later
lies behind the point that a reader has reached.
"""

from collections import deque
from collections.abc import Iterator

from eventfleet.stores.contracts import Page
from eventfleet.stores.cursors import FeedPoint, decode_feed_cursor, encode_cursor
from eventfleet.stores.mongo.client import Collection
from eventfleet.stores.mongo.documents import Document, to_event
from eventfleet.stores.mongo.domain_metadata import DomainMetadata
from eventfleet.stores.mongo.operation import operation
from eventfleet.topics.event import EventRecord

IN_ORDER = [("offset", 1), ("version", 1)]
LATEST_FIRST = [("offset", -1), ("version", -1)]


class DomainFeed:
    """Pages of one domain's placed events."""

    def __init__(self, domain: str, events: Collection, metadata: DomainMetadata) -> None:
        self._domain = domain
        self._listing = f"{domain}.feed"
        self._events = events
        self._metadata = metadata

    async def page(self, cursor: str, limit: int) -> Page:
        """Read a page; partitions for which it has no room come first in the next page."""
        epoch, partitions = await self._metadata.extent()
        points = decode_feed_cursor(self._listing, cursor, epoch, partitions)
        known = {point.partition for point in points}
        waiting = deque([*points, *(FeedPoint.start(p) for p in partitions if p not in known)])
        served, events = list[FeedPoint](), list[EventRecord]()
        with operation("feed", self._events):
            while waiting and len(events) < limit:
                point = waiting.popleft()
                found = await self._after(point, epoch, limit - len(events))
                events += found
                served.append(FeedPoint.of(found[-1]) if found else point)
        return Page(events, encode_cursor(self._listing, [*waiting, *served]))

    async def behind(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        """Read a partition's next events behind a point; none only at its end."""
        epoch, _ = await self._metadata.extent()
        with operation("feed", self._events):
            return await self._after(point, epoch, limit)

    async def end(self, partition: int) -> FeedPoint:
        """Return the point of a partition's last event, or the one before its first."""
        newest, _ = await self._metadata.extent()
        with operation("feed", self._events):
            for epoch in range(newest, -1, -1):
                at = {"epoch": epoch, "partition": partition}
                last = self._events.find(at).sort(LATEST_FIRST).limit(1)
                for document in await last.to_list(1):
                    return FeedPoint.of(to_event(self._domain, document))
        return FeedPoint.start(partition)

    async def _after(self, point: FeedPoint, newest: int, limit: int) -> list[EventRecord]:
        """Read a partition's next events: perhaps only those up to a gap; none only at its end."""
        for epoch in range(point.epoch, newest + 1):
            start = point if epoch == point.epoch else FeedPoint(point.partition, epoch, -1, 0)
            if seen := await self._read(start, epoch, limit):
                # While one range was read, events may have been placed in the ranges before it; but
                # by now all events below one that was read are placed.
                end = FeedPoint.of(seen[-1])
                again = await self._read(start, epoch, limit)
                return [event for event in again if FeedPoint.of(event) <= end]
        return []

    async def _read(self, start: FeedPoint, epoch: int, limit: int) -> list[EventRecord]:
        events: list[EventRecord] = []
        for beyond, last in _ranges(start, limit):
            at = {"epoch": epoch, "partition": start.partition} | beyond
            found = self._events.find(at).sort(IN_ORDER).limit(limit - len(events))
            events += [to_event(self._domain, document) for document in await found.to_list(None)]
            if len(events) == limit or (events and last):
                break
        return events


def _ranges(start: FeedPoint, limit: int) -> Iterator[tuple[Document, bool]]:
    """Yield the ranges behind a point, in order, and whether an event in a range ends the read.

    A bounded range comes before the open one: some servers read a range whole, whatever the limit.
    Its end is excluded: some servers lose documents that are equal to an upper bound on a key which
    is not the index's last.
    """
    end = start.offset + 1 + limit
    yield {"offset": start.offset, "version": {"$gt": start.version}}, False
    yield {"offset": {"$gt": start.offset, "$lt": end}}, True
    yield {"offset": {"$gte": end}}, True
