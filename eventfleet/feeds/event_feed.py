"""EventFeed: reads a domain's placed events once for all clients of this process.

The store is the truth: while there are clients, each partition is read by position, to its end once
a second, and at once where the log has news of it. So a wake-up that is lost costs a second.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventfleet.feeds.feed_place import FeedPlace
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.querier import Querier
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import EventReader, LogFollower, StoreRegistry
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord

POLL_SECONDS = 1.0
ROUND_SECONDS = 5.0
PAGE_EVENTS = 500
MAX_KEPT_EVENTS = 10_000
MAX_KEPT_BYTES = 8 * 2**20
MAX_READS = 8
"""Pages of missed events that clients read at once."""


class LoadAnew(Exception):
    """A client's copy can't be brought up to date from its cursor; the message says why."""


class FeedEntry:
    """An event of the feed, as JSON, and the place of a reader who has it.

    `error`: an upcaster raised on the event. `end` is the number of the feed's bytes up to here.
    """

    __slots__ = ("_cursor", "data", "domain", "end", "error", "event", "place", "point")

    def __init__(self, domain: str, event: EventRecord, place: FeedPlace) -> None:
        self.domain, self.event = domain, event
        self.point = FeedPoint.of(event)
        self.place = place.moved(self.point)
        self.data, self.end = b"", 0
        self.error: ReplayFailed | None = None
        self._cursor = ""

    @property
    def cursor(self) -> str:
        self._cursor = self._cursor or self.place.encode(self.domain)
        return self._cursor

    def after(self, place: FeedPlace) -> "FeedEntry":
        """Return the entry for a reader at a place of its own."""
        entry = FeedEntry(self.domain, self.event, place)
        entry.data, entry.error = self.data, self.error
        return entry


class Waiter:
    """A client that waits. It is woken also where its time is over, and it has not noticed yet."""

    __slots__ = ("future", "is_woken")

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True
        if not self.future.done():
            self.future.set_result(None)


class EventFeed:
    """The feed of one domain: its latest entries, read while it is `running` and has clients.

    The `kept` entries are numbered from `first` on, up to `end`; `base` is the place before them,
    `place` that behind them.
    """

    def __init__(
        self,
        domain: str,
        topic: str,
        queries: Querier[Any],
        events: EventReader,
        registry: StoreRegistry,
        follower: LogFollower,
        partitions: int,
    ) -> None:
        """The `follower` of the `topic` of stored events wakes the reader."""
        self.domain, self._topic = domain, topic
        self._queries, self._events, self._registry = queries, events, registry
        self._follower, self._partitions = follower, partitions
        self.kept: list[FeedEntry] = []
        self.first = 0
        self.base = self.place = FeedPlace("", ())
        self._bytes = 0
        self.clients = 0
        self._has_clients, self._woken = asyncio.Event(), asyncio.Event()
        self._changed: set[int] = set()
        self._rounds: list[asyncio.Future[None]] = []
        self._waiting: dict[str | None, dict[Waiter, None]] = {}
        self._reads = asyncio.Semaphore(MAX_READS)
        self._reader = BackgroundTask(f"the reader of the feed of {domain}", self._read)
        self._waker = BackgroundTask(f"the follower of the feed of {domain}", self._follow)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._reader.running(), self._waker.running():
            yield

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Read the feed for a client, for the length of the block."""
        self.clients += 1
        self._has_clients.set()
        try:
            yield
        finally:
            self.clients -= 1
            if not self.clients:
                self._has_clients.clear()

    @property
    def end(self) -> int:
        return self.first + len(self.kept)

    def behind(self, index: int) -> Sequence[FeedEntry]:
        """Return the entries from a number on; the caller has checked that they are kept."""
        return self.kept[index - self.first :]

    def kept_behind(self, place: FeedPlace) -> list[FeedEntry]:
        """Return the kept entries that a reader at a place lacks, with places of its own."""
        found = []
        for entry in self.kept:
            if entry.point > place.points[entry.point.partition]:
                found.append(entry.after(place))
                place = found[-1].place
        return found

    def bytes_behind(self, index: int) -> int:
        """Count the bytes of the entries from a number on."""
        if index <= self.first:
            return self._bytes - (self.kept[0].end - len(self.kept[0].data) if self.kept else 0)
        return self._bytes - self.kept[index - self.first - 1].end

    async def next_round(self) -> None:
        """Wait for a reading of all partitions that begins now. ServerUnavailable: none ended."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rounds.append(done)
        self._woken.set()
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await done
        except TimeoutError:
            raise ServerUnavailable(f"the feed of {self.domain} can't be read for now") from None
        finally:
            with suppress(ValueError):
                self._rounds.remove(done)

    async def missed(self, place: FeedPlace, partition: int) -> list[FeedEntry]:
        """Read a page of a partition from a place on."""
        async with self._reads:
            page = await self._events.placed(place.points[partition], PAGE_EVENTS)
            await self._check_life(place)
        return self._entries(page, place)

    async def _check_life(self, place: FeedPlace) -> None:
        """Check that what was read is of the place's incarnation: the store may be another by now.

        LoadAnew.
        """
        if await self._registry.incarnation() != place.incarnation:
            raise LoadAnew("the store has begun another life")

    async def of_aggregate(
        self, aggregate_id: str, after: int, limit: int = PAGE_EVENTS
    ) -> tuple[list[EventRecord], bool]:
        """Read a page of an aggregate's events above a version, and whether it is the last one.

        ReplayFailed: the first of them can't be read.
        """
        events = list[EventRecord]()
        async with self._reads:
            try:
                async for event in self._queries.events(aggregate_id, after, limit):
                    events.append(event)
            except ReplayFailed:
                if not events:
                    raise
                return events, False
        return events, len(events) < limit

    async def wait(self, aggregate_id: str | None, seconds: float) -> bool:
        """Wait until an entry comes, of an aggregate or of any; False: none did within seconds."""
        waiting, waiter = self._waiting.setdefault(aggregate_id, {}), Waiter()
        waiting[waiter] = None
        try:
            with suppress(TimeoutError), Timeout(seconds):
                await waiter.future
        finally:
            del waiting[waiter]
            if not waiting:
                self._waiting.pop(aggregate_id, None)
        return waiter.is_woken

    def wake_all(self) -> None:
        """Let all clients look at what has changed."""
        self._wake([*self._waiting])

    # Reading

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._has_clients.wait()
            asked = [*self._rounds]
            await self._read_all()
            self._reader.report_well()
            self._rounds = [each for each in self._rounds if each not in asked]
            for done in asked:
                if not done.done():
                    done.set_result(None)
            next_round = clock() + POLL_SECONDS
            while clock() < next_round and not self._rounds:
                with suppress(LoadAnew):
                    for partition in await self._woken_until(next_round):
                        await self._read_partition(partition)

    async def _woken_until(self, moment: float) -> Iterable[int]:
        """Wait for news of partitions, or for a round to be asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._woken.wait()
        self._woken.clear()
        changed, self._changed = self._changed, set()
        return changed

    async def _read_all(self) -> None:
        incarnation = await self._registry.incarnation()
        if incarnation != self.place.incarnation:
            await self._begin(incarnation)
        with suppress(LoadAnew):  # the next round begins anew
            for partition in range(len(self.place.points)):
                await self._read_partition(partition)

    async def _begin(self, incarnation: str) -> None:
        """Begin at the end of the store; whoever was here before loads anew."""
        count = max(self._partitions, *await self._registry.partition_counts(), 1)
        points = [await self._events.last_placed(partition) for partition in range(count)]
        self.first, self.kept = self.end, []
        self.base = self.place = FeedPlace(incarnation, tuple(points))
        self.wake_all()

    async def _read_partition(self, partition: int) -> None:
        while page := await self._events.placed(self.place.points[partition], PAGE_EVENTS):
            await self._check_life(self.place)
            entries = self._entries(page, self.place)
            for entry in entries:
                self._bytes += len(entry.data)
                entry.end = self._bytes
            self.kept += entries
            self.place = entries[-1].place
            while (
                len(self.kept) > MAX_KEPT_EVENTS or self.bytes_behind(self.first) > MAX_KEPT_BYTES
            ):
                self._forget(len(self.kept) // 2 + 1)
            self._wake(dict.fromkeys([None, *(entry.event.aggregate_id for entry in entries)]))

    def _forget(self, count: int) -> None:
        self.base = self.kept[count - 1].place
        self.first += count
        del self.kept[:count]

    def _wake(self, aggregate_ids: Iterable[str | None]) -> None:
        for aggregate_id in aggregate_ids:
            for waiter in self._waiting.get(aggregate_id, ()):
                waiter.wake()

    def _entries(self, page: Sequence[EventRecord], place: FeedPlace) -> list[FeedEntry]:
        entries = []
        for event in page:
            entry = FeedEntry(self.domain, event, place)
            try:
                entry.event = self._queries.upcast(event)
                entry.data = encode(entry.event)
            except ReplayFailed as error:
                entry.error = error
            place = entry.place
            entries.append(entry)
        return entries

    async def _follow(self) -> None:
        """Wake the reader for each partition with news, while there are clients."""
        while True:
            await self._has_clients.wait()
            async with self._follower.follow(self._topic, self._partitions) as records:
                self._waker.report_well()
                async for record in records:
                    self._changed.add(record.partition)
                    self._woken.set()
                    if not self.clients:
                        break
