"""Reading a whole domain by position, one range of the index per partition.

A partition's events are placed in the order of position and version, so whatever is placed later
lies behind the point that a reader has come to.
"""

from collections import deque
from collections.abc import Collection, Iterator
from itertools import pairwise

from stores.contracts import Page
from stores.cursors import Point, from_cursor, to_cursor
from stores.mongo import client
from stores.mongo.documents import event_of
from stores.mongo.indexes import POSITIONS
from topics.event import EventRecord

IN_ORDER = [(key, 1) for key in POSITIONS.keys]
PLACED = {"offset": {"$exists": True}}
BEYOND = 2**63 - 1


class Feed:
    """Pages of one domain's placed events."""

    def __init__(self, domain: str, events: client.Collection) -> None:
        self._domain = domain
        self._listing = f"{domain}.feed"
        self._events = events

    async def page(self, cursor: str, limit: int) -> Page:
        """Those partitions that a full page left out come first in the next one."""
        points = from_cursor(self._listing, cursor, list[Point]) if cursor else []
        newest = await self._newest_epoch()
        waiting, served, events = deque(points), deque[Point](), list[EventRecord]()
        while len(events) < limit:
            known = {point.partition for point in (*waiting, *served)}
            point = waiting.popleft() if waiting else await self._unknown(known, newest)
            if point is None:
                break
            found = await self._after(point, newest, limit - len(events))
            events += found
            served.append(Point.of(found[-1]) if found else point)
        return Page(events, to_cursor(self._listing, [*waiting, *served]))

    async def _newest_epoch(self) -> int:
        """-1 where no event is placed yet."""
        backwards = [(key, -1) for key, _ in IN_ORDER]
        found = await self._events.find_one(
            PLACED, {"_id": 0, "epoch": 1}, hint=POSITIONS.name, sort=backwards
        )
        return found["epoch"] if found else -1

    async def _after(self, point: Point, newest: int, limit: int) -> list[EventRecord]:
        events: list[EventRecord] = []
        for epoch in range(point.epoch, newest + 1):
            start = point if epoch == point.epoch else Point(point.partition, epoch, -1, 0)
            beyond = [{"offset": {"$gt": start.offset}}, {"version": {"$gt": start.version}}]
            found = self._events.find(
                {
                    "epoch": epoch,
                    "partition": start.partition,
                    "offset": {"$gte": start.offset},
                    "$or": beyond,
                },
                hint=POSITIONS.name,
            )
            documents = await found.sort(IN_ORDER).limit(limit - len(events)).to_list(None)
            events += [event_of(self._domain, document) for document in documents]
            if len(events) == limit:
                break
        return events

    async def _unknown(self, known: Collection[int], newest: int) -> Point | None:
        """The start of a partition that has events and is not among the known."""
        for epoch in range(newest + 1):
            for low, high in _gaps(known):
                within = {"epoch": epoch, "partition": {"$gt": low, "$lt": high}} | PLACED
                found = await self._events.find_one(
                    within, {"_id": 0, "partition": 1}, hint=POSITIONS.name, sort=IN_ORDER
                )
                if found:
                    return Point.start(found["partition"])
        return None


def _gaps(known: Collection[int]) -> Iterator[tuple[int, int]]:
    """Where unknown partitions can be, between the numbers given."""
    for low, high in pairwise((-1, *sorted(known), BEYOND)):
        if high > low + 1:
            yield low, high
