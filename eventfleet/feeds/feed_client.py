"""Clients of a feed: each gets first what it has missed, then what comes, without gap or double."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from eventfleet.feeds.event_feed import EventFeed, FeedEntry, LoadAnew
from eventfleet.feeds.feed_place import FeedPlace
from eventfleet.states.live_state import ReplayFailed
from eventfleet.stores.contracts.views import AggregateSelection
from eventfleet.stores.cursors import Count, FeedPoint, decode_cursor, encode_cursor, is_cursor
from eventfleet.stores.errors import InvalidCursor, ServerUnavailable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord

LATEST = "latest"
"""In place of a cursor: the end of the feed, as it is now."""


class FeedMessage(NamedTuple):
    """An event as JSON, and the cursor of a client that has it."""

    cursor: str
    data: bytes


class FeedClient(Protocol):
    """A client of a feed, within the feed's `joined`."""

    async def open(self, cursor: str) -> None:
        """Go on from a cursor, from the beginning ("") or from LATEST.

        LoadAnew: the cursor is of another feed, or of another life of the store. InvalidCursor: it
        is no cursor. ServerUnavailable.
        """

    async def next(self) -> Sequence[FeedMessage]:
        """Return the next messages; perhaps none, where others than asked for were read.

        None at the feed's end: `wait` then. LoadAnew: the store has begun another life.
        ReplayFailed: the client's next event can't be read.
        """

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be messages; False: there were none within seconds."""

    def cursor(self) -> str:
        """Return the cursor of all that `next` has returned; "" before the first event."""

    def unread_bytes(self, limit: int) -> int:
        """Count the bytes that wait for the client, or `limit` of them."""


class FeedSelection(NamedTuple):
    """The events that a client asks for: by their types and aggregates; None is any."""

    types: Collection[str] | None = None
    aggregates: Collection[str] | None = None
    bounds: AggregateSelection | None = None

    def selects(self, event: EventRecord) -> bool:
        return (
            (self.types is None or event.type in self.types)
            and (self.aggregates is None or event.aggregate_id in self.aggregates)
            and (self.bounds is None or self.bounds.selects(event.aggregate_id))
        )


class DomainFeedClient:
    """FeedClient of a domain's events, or of a selection of them.

    `_next` is the number of the next entry of a client that has all before it. Any other one reads
    what it has missed, from what the feed keeps or from the store, up to the feed's place.
    """

    def __init__(self, feed: EventFeed, selection: FeedSelection) -> None:
        self._feed, self._selection = feed, selection
        self._place, self._next = feed.place, -1
        self._failed: ReplayFailed | None = None
        only = selection.aggregates or ()
        self._awaited = next(iter(only)) if len(only) == 1 else None

    async def open(self, cursor: str) -> None:
        feed = self._feed
        asked = self._decode(cursor) if cursor not in ("", LATEST) else None
        if not feed.place.points or (asked and not self._is_known(asked)):
            await feed.next_round()
        if asked and not self._is_known(asked):
            raise LoadAnew("the cursor is of another life of the store")
        start = tuple(map(FeedPoint.start, range(len(feed.place.points))))
        beginning = feed.place if cursor == LATEST else feed.place._replace(points=start)
        self._place, self._next, self._failed = asked or beginning, -1, None

    def _decode(self, cursor: str) -> FeedPlace:
        try:
            return FeedPlace.decode(self._feed.domain, cursor)
        except InvalidCursor as error:
            raise _refused(cursor, error) from None

    def _is_known(self, place: FeedPlace) -> bool:
        own = self._feed.place
        same = place.incarnation == own.incarnation and len(place.points) == len(own.points)
        return same and place.is_within(own)

    async def next(self) -> Sequence[FeedMessage]:
        if self._place.incarnation != self._feed.place.incarnation:
            raise LoadAnew("the store has begun another life")
        if self._failed:
            raise self._failed
        entries = self._coming() if self._is_live else await self._missed()
        messages = list[FeedMessage]()
        for entry in entries:
            if self._selection.selects(entry.event):
                if entry.error and not messages:
                    raise entry.error
                if entry.error:
                    self._failed = entry.error
                    break
                messages.append(FeedMessage(entry.cursor, entry.data))
            self._place = entry.place
        return messages

    @property
    def _is_live(self) -> bool:
        return self._next >= self._feed.first

    def _coming(self) -> Sequence[FeedEntry]:
        entries = self._feed.behind(self._next)
        self._next = self._feed.end
        return entries

    async def _missed(self) -> Sequence[FeedEntry]:
        feed, place = self._feed, self._place
        if feed.base.is_within(place):
            self._next = feed.end
            return feed.kept_behind(place)
        goal = feed.place.points
        behind = next(mine for mine, its in zip(place.points, goal, strict=True) if mine < its)
        page = await feed.missed(place, behind.partition)
        found = [entry for entry in page if entry.point <= goal[behind.partition]]
        if not page:
            raise ServerUnavailable(f"the feed of {feed.domain} has events that the store lacks")
        if not found:
            self._place = place.moved(goal[behind.partition])
        return found

    async def wait(self, seconds: float) -> bool:
        if not self._is_live or self._next < self._feed.end or self._failed:
            return True
        if await self._feed.wait(self._awaited, seconds):
            return True
        if self._is_live:
            self._next, self._place = self._feed.end, self._feed.place
        return False

    def cursor(self) -> str:
        return self._place.encode(self._feed.domain)

    def unread_bytes(self, limit: int) -> int:
        if not self._is_live or self._feed.bytes_behind(self._next) < limit:
            return 0
        waiting = self._feed.behind(self._next)
        return sum(len(each.data) for each in waiting if self._selection.selects(each.event))


def _refused(cursor: str, error: InvalidCursor) -> Exception:
    """Return what to raise for a cursor of elsewhere, and for one that is none at all."""
    return LoadAnew("the cursor is of another feed") if is_cursor(cursor) else error


class AggregateFeedClient:
    """FeedClient of one aggregate, by version; a cursor has the version and the id of an event.

    It reads what is stored first. Of the feed's entries it takes the next version, and where that
    is missing it reads the store again.
    """

    def __init__(
        self, feed: EventFeed, aggregate_id: str, types: Collection[str] | None, after: int
    ) -> None:
        """A client without a cursor gets the events above the version `after`."""
        self._feed, self._aggregate_id, self._types = feed, aggregate_id, types
        self._listing = f"{feed.domain}.aggregate feed"
        self._after = after
        self._version, self._event_id = after, ""
        self._next, self._lacks = -1, False
        self._incarnation = ""

    async def open(self, cursor: str) -> None:
        if not self._feed.place.points:
            await self._feed.next_round()
        self._version, self._event_id = self._decode(cursor) if cursor else (self._after, "")
        self._incarnation, self._next, self._lacks = self._feed.place.incarnation, -1, False
        if cursor:
            await self._stored()

    def _decode(self, cursor: str) -> tuple[int, str]:
        try:
            return decode_cursor(self._listing, cursor, tuple[Count, str])
        except InvalidCursor as error:
            raise _refused(cursor, error) from None

    async def next(self) -> Sequence[FeedMessage]:
        feed = self._feed
        if self._incarnation != feed.place.incarnation:
            self._incarnation, self._next = feed.place.incarnation, -1
        if self._next >= feed.first:
            coming, self._next = feed.behind(self._next), feed.end
            return self._take_coming(coming)
        end = feed.end
        stored, is_last = await self._stored()
        if self._lacks and not stored:
            raise ServerUnavailable(f"{self._aggregate_id!r} lacks version {self._version + 1}")
        self._lacks = False
        if is_last:
            self._next = end
        return [*filter(None, (self._take(event, encode(event)) for event in stored))]

    async def _stored(self) -> tuple[Sequence[EventRecord], bool]:
        """Read a page behind the client's last event, and check that the store has that one."""
        known = 1 if self._event_id else 0
        page, is_last = await self._feed.of_aggregate(self._aggregate_id, self._version - known)
        if known and [each.id for each in page[:1]] != [self._event_id]:
            raise LoadAnew("the cursor's event is not in the store")
        return page[known:], is_last

    def _take_coming(self, coming: Sequence[FeedEntry]) -> Sequence[FeedMessage]:
        messages = []
        for entry in coming:
            event = entry.event
            if event.aggregate_id == self._aggregate_id and (event.version or 0) > self._version:
                if entry.error or event.version != self._version + 1:
                    self._next, self._lacks = -1, True
                    break
                if message := self._take(event, entry.data):
                    messages.append(message)
        return messages

    def _take(self, event: EventRecord, data: bytes) -> FeedMessage | None:
        self._version, self._event_id = event.version or 0, event.id
        selected = self._types is None or event.type in self._types
        return FeedMessage(self.cursor(), data) if selected else None

    async def wait(self, seconds: float) -> bool:
        if self._next < self._feed.end:
            return True
        if await self._feed.wait(self._aggregate_id, seconds):
            return True
        self._next = self._feed.end
        return False

    def cursor(self) -> str:
        place = self._version, self._event_id
        return encode_cursor(self._listing, place) if self._event_id else ""

    def unread_bytes(self, limit: int) -> int:
        if self._next < self._feed.first or self._feed.bytes_behind(self._next) < limit:
            return 0
        waiting = self._feed.behind(self._next)
        return sum(len(e.data) for e in waiting if e.event.aggregate_id == self._aggregate_id)
