"""FeedHub: passes a domain's events to the sockets of this process, in order and without gaps;
EventBroadcast, which publishes new events to the hubs of all processes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from eventfleet.feeds.channel_names import ChannelNames
from eventfleet.model.domain import Domain
from eventfleet.states.querier import Querier
from eventfleet.stores.background_task import BackgroundTask, cancel
from eventfleet.stores.contracts import Channels, LogFollower
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import OUTAGE
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord

OPEN_SECONDS = 5.0
MAX_WAITING_EVENTS = 1_000
MAX_HELD_EVENTS = 1_000
PAGE_EVENTS = 500
GAP_SECONDS = 0.05
MAX_BEING_PUBLISHED = 1_000


class TooSlow(Exception):
    """A client does not take its frames fast enough; the message says how that was noticed."""


class EventFrame(msgspec.Struct, frozen=True, tag_field="kind", tag="event"):
    """An event, as it is sent to clients."""

    event: msgspec.Raw


def encode_frame(event: EventRecord) -> bytes:
    """Encode the frame of an event, which all listeners share."""
    return msgspec.json.encode(EventFrame(msgspec.Raw(encode(event))))


class FeedListener:
    """A listener of an aggregate: the frames of its events above `version`, each once and in
    order."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._too_slow = False

    def put(self, frame: bytes) -> None:
        """Let the next frame wait for its turn; once one had no room, no more are taken."""
        self._too_slow = self._too_slow or self._waiting.full()
        if not self._too_slow:
            self._waiting.put_nowait(frame)

    async def next(self) -> bytes:
        """Wait for the next frame. TooSlow: some were left out."""
        if self._too_slow and self._waiting.empty():
            raise TooSlow(f"the client let {MAX_WAITING_EVENTS:,} events wait")
        return await self._waiting.get()


class EventSequence:
    """Puts the events of an aggregate into the order of their versions, each once. Pure.

    All events up to `version` have been taken. At most MAX_HELD_EVENTS that came too early are
    `held`, by version; others are forgotten, to be read from the store.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.held: dict[int, EventRecord] = {}

    def take(self, event: EventRecord) -> list[EventRecord]:
        """Take an event in any order; return the events that are next."""
        if (
            event.version > self.version and len(self.held) < MAX_HELD_EVENTS
        ) or event.version == self.version + 1:
            self.held[event.version] = event
        taken = []
        while found := self.held.pop(self.version + 1, None):
            self.version = found.version
            taken.append(found)
        return taken


class OpenFeed:
    """An aggregate that somebody listens to.

    Events that are missing for GAP_SECONDS are read from the store. So an event that is stored, but
    whose writer died before it produced it, is passed on as soon as the next one is.
    """

    def __init__(self, aggregate_id: str, queries: Querier[Any]) -> None:
        self.aggregate_id, self._queries = aggregate_id, queries
        self.listeners: set[FeedListener] = set()
        self._opening: asyncio.Task[None] | None = None
        self._sequence: EventSequence | None = None
        self._early: list[EventRecord] = []
        self._filling: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        """The version up to which all events were passed on."""
        return self._sequence.version if self._sequence else 0

    async def open(self) -> None:
        """Read the aggregate's version; who comes meanwhile waits for the same answer."""
        if self._opening is None or (self._opening.done() and self._sequence is None):
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        self._sequence = EventSequence(await self._queries.version(self.aggregate_id))
        early, self._early = self._early, []
        for event in early:
            self.receive(event)

    async def close(self) -> None:
        for task in (self._opening, self._filling):
            if task:
                await cancel(task)

    def receive(self, event: EventRecord) -> None:
        """Take an event of the aggregate, in any order, and any number of times."""
        if self._sequence is None:
            self._early.append(event)
            return
        for frame in map(encode_frame, self._sequence.take(event)):
            for listener in self.listeners:
                listener.put(frame)
        if self._sequence.held:
            self.fill(GAP_SECONDS)

    def fill(self, pause: float = 0.0) -> None:
        """Look into the store for events that were missed."""
        if self._sequence and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill(self._sequence, pause))

    async def catch_up(self, version: int) -> None:
        """Read from the store up to a version, or to its latest one. ServerUnavailable."""
        latest = version
        while self.version < min(version, latest):
            latest = await self._read_page()

    async def _fill(self, sequence: EventSequence, pause: float) -> None:
        """Read from the store until nothing is missing."""
        failures = 0
        while True:
            await asyncio.sleep(pause)
            try:
                latest = await self._read_page()
            except ServerUnavailable:
                failures += 1
                pause = OUTAGE.pause(failures)
                continue
            failures = 0
            if not sequence.held and sequence.version >= latest:
                return
            pause = GAP_SECONDS

    async def _read_page(self) -> int:
        """Take the next stored events; return the latest stored version."""
        found = await self._queries.missing(self.aggregate_id, self.version, PAGE_EVENTS)
        for event in found.events:
            self.receive(event)
        return found.latest


class FeedHub:
    """The aggregates of a domain that sockets of this process listen to, while it is `running`.

    Each process gets all of their events from the log, whoever decided their commands; and those
    that an HTTP service stores from its broadcast, which is sooner. The events of an asynchronous
    domain have their versions once they are stored, so it follows the log of stored ones.
    """

    def __init__(
        self,
        follower: LogFollower,
        channels: Channels,
        domain: Domain[Any],
        queries: Querier[Any],
        partitions: int,
    ) -> None:
        self._follower, self._channels = follower, channels
        topics = domain.topics
        self._topic = topics.events if domain.synchronous else topics.stored
        self._broadcast = ChannelNames.of(domain.name).events
        self._queries, self._partitions = queries, partitions
        self._feeds: dict[str, OpenFeed] = {}
        self._following = asyncio.Event()
        self._following_task = BackgroundTask(
            f"the follower of {domain.name} events",
            self._follow,
            essential=True,
        )
        self._hearing_task = BackgroundTask(f"the subscriber of {domain.name} events", self._hear)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with self._following_task.running(), self._hearing_task.running():
                yield
        finally:
            for feed in self._feeds.values():
                await feed.close()

    @asynccontextmanager
    async def listen(self, aggregate_id: str, after: int = 0) -> AsyncIterator[FeedListener]:
        """A listener to an aggregate from its latest version on. ServerUnavailable.

        Where the client has events up to a version `after` that this process has not heard of, the
        store is asked for them first: this process may lag.
        """
        feed = self._feeds.setdefault(aggregate_id, OpenFeed(aggregate_id, self._queries))
        listener = FeedListener()
        feed.listeners.add(listener)
        try:
            await self._open(feed, after)
            feed.listeners.discard(listener)
            listener = FeedListener(feed.version)
            feed.listeners.add(listener)
            yield listener
        finally:
            feed.listeners.discard(listener)
            if not feed.listeners:
                del self._feeds[aggregate_id]
                await feed.close()

    async def _open(self, feed: OpenFeed, after: int) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._following.wait()
                await feed.open()
                await feed.catch_up(after)
        except TimeoutError:
            where = repr(feed.aggregate_id)
            raise ServerUnavailable(f"{where} could not be opened in time") from None

    async def _follow(self) -> None:
        try:
            async with self._follower.follow(self._topic, self._partitions) as records:
                self._following.set()
                self._following_task.report_well()
                for opened in self._feeds.values():
                    opened.fill()
                async for record in records:
                    feed = self._feeds.get((record.key or b"").decode("utf-8", "replace"))
                    if feed:
                        with suppress(InvalidRecord):  # append tells of it
                            feed.receive(decode(record.value))
        finally:
            self._following.clear()

    async def _hear(self) -> None:
        async with self._channels.subscribe(self._broadcast) as messages:
            self._hearing_task.report_well()
            async for together in messages:
                for message in together:
                    with suppress(InvalidRecord):  # others may publish what is none
                        event = decode(message)
                        self._queries.latest_states.note(event)
                        if feed := self._feeds.get(event.aggregate_id):
                            feed.receive(event)


class EventBroadcast:
    """Publishes a domain's events to the hubs of all processes as soon as they are stored.

    It is the short way only: the log brings every event, too. So events are left out where Redis
    does not take them, or not fast enough.
    """

    def __init__(self, channels: Channels, domain: str) -> None:
        self._channels, self._channel = channels, ChannelNames.of(domain).events
        self._being_published: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EventBroadcast"]:
        try:
            yield self
        finally:
            for task in list(self._being_published):
                await cancel(task)

    def announce(self, events: Sequence[EventRecord]) -> None:
        """Publish stored events, behind the caller's back."""
        for event in events[: MAX_BEING_PUBLISHED - len(self._being_published)]:
            task = asyncio.create_task(self._publish(encode(event)))
            self._being_published.add(task)
            task.add_done_callback(self._being_published.discard)

    async def _publish(self, event: bytes) -> None:
        with suppress(ServerUnavailable):
            await self._channels.publish({self._channel: [event]})
