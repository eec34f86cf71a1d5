"""Feeds with one rule taken out each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from eventfleet.feeds.event_feed import EventFeed, FeedEntry, Waiter
from eventfleet.feeds.feed_client import (
    AggregateFeedClient,
    DomainFeedClient,
    FeedMessage,
    LoadAnew,
)
from eventfleet.feeds.feed_follower import FeedFollower, FeedUpdate, Lines
from eventfleet.feeds.feed_place import FeedPlace
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.event import EventRecord
from eventfleet.web.feed_response import FeedResponse, message


class ReadsBeyond(DomainFeedClient):
    """Without: what was missed ends at the feed's place."""

    async def _missed(self) -> Sequence[FeedEntry]:
        feed, place = self._feed, self._place
        if feed.base.is_within(place):
            self._next = feed.end
            return feed.kept_behind(place)
        goal = feed.place.points
        behind = next(mine for mine, its in zip(place.points, goal, strict=True) if mine < its)
        found = await feed.missed(place, behind.partition)
        if all(mine >= its for mine, its in zip(found[-1].place.points, goal, strict=True)):
            self._next = feed.end
        return found


class TakesAllThatIsKept(EventFeed):
    """Without: of what is kept, a client takes what it lacks."""

    def kept_behind(self, place: FeedPlace) -> list[FeedEntry]:
        return [*self.kept]


class TakesTheFeedsPlace(EventFeed):
    """Without: a client that catches up has a place of its own."""

    def kept_behind(self, place: FeedPlace) -> list[FeedEntry]:
        return [e for e in self.kept if e.point > place.points[e.point.partition]]


class StaysLive(DomainFeedClient):
    """Without: a client behind what is kept reads the store."""

    @property
    def _is_live(self) -> bool:
        return self._next >= 0

    def _coming(self) -> Sequence[FeedEntry]:
        self._next = max(self._next, self._feed.first)
        return super()._coming()


class ReadsOn(EventFeed):
    """Without: what was read is of the life that the place is of."""

    async def _check_life(self, place: FeedPlace) -> None:
        """Check nothing."""


class LivesOnAsBefore(EventFeed):
    """Without: in another life of the store the feed begins anew."""

    async def _read_all(self) -> None:
        if not self.place.points:
            await self._begin(await self._registry.incarnation())
        for partition in range(len(self.place.points)):
            await self._read_partition(partition)

    async def _check_life(self, place: FeedPlace) -> None:
        """Check nothing."""


class WaitsForNews(EventFeed):
    """Without: each partition is read once a second."""

    async def _read_all(self) -> None:
        if not self.place.points or self._rounds:
            await super()._read_all()


class AsksNoRound(DomainFeedClient):
    """Without: the feed catches up with a client that is ahead of it."""

    async def open(self, cursor: str) -> None:
        if cursor and self._feed.place.points and not self._is_known(self._decode(cursor)):
            raise LoadAnew("the cursor is of another life of the store")
        await super().open(cursor)


class LosesLateWakes(EventFeed):
    """Without: a client is woken also where its time is over, and it has not noticed yet."""

    async def wait(self, aggregate_id: str | None, seconds: float) -> bool:
        waiting, waiter = self._waiting.setdefault(aggregate_id, {}), Waiter()
        waiting[waiter] = None
        try:
            with suppress(TimeoutError), Timeout(seconds):
                await waiter.future
        finally:
            del waiting[waiter]
        return not waiter.future.cancelled()


class SkipsWhatWokeIt(DomainFeedClient):
    """Without: only a client for which nothing came moves to the feed's place."""

    async def wait(self, seconds: float) -> bool:
        is_live = self._is_live and self._next == self._feed.end
        woken = await super().wait(seconds)
        if is_live and self._is_live:
            self._next, self._place = self._feed.end, self._feed.place
        return woken


class TakesStoredAgain(AggregateFeedClient):
    """Without: what was read from the store is not taken from the feed."""

    def _take_coming(self, coming: Sequence[FeedEntry]) -> Sequence[FeedMessage]:
        own = [each for each in coming if each.event.aggregate_id == self._aggregate_id]
        taken = [self._take(each.event, each.data) for each in own]
        return [each for each in taken if each]


class JoinsLate(AggregateFeedClient):
    """Without: the feed is joined before the store is read, or else a missing version is seen."""

    async def next(self) -> Sequence[FeedMessage]:
        reads = self._next < self._feed.first
        messages = await super().next()
        if reads and self._next >= 0:
            self._next = self._feed.end
        return messages

    def _take_coming(self, coming: Sequence[FeedEntry]) -> Sequence[FeedMessage]:
        own = [each for each in coming if each.event.aggregate_id == self._aggregate_id]
        new = [each for each in own if (each.event.version or 0) > self._version]
        taken = [self._take(each.event, each.data) for each in new]
        return [each for each in taken if each]


class TrustsItsVersion(AggregateFeedClient):
    """Without: the store has the event that the client had last."""

    async def _stored(self) -> tuple[Sequence[EventRecord], bool]:
        return await self._feed.of_aggregate(self._aggregate_id, self._version)


class ReloadsAtOnce(FeedResponse):
    """Without: a client is opened anew in the present life."""

    async def _reload(self, reason: LoadAnew) -> bytes:
        await self._client.open(self._asked.anew)
        return message("reload", {"reason": str(reason)}, "")


class MovesEarly(FeedFollower):
    """Without: the cursor moves with the end of a message."""

    async def _updates(self, lines: Lines) -> AsyncIterator[FeedUpdate]:
        async def noted() -> AsyncIterator[str]:
            async for line in lines:
                if line.startswith("id: "):
                    self._cursor = line.removeprefix("id: ")
                yield line

        async for update in super()._updates(noted()):
            yield update
