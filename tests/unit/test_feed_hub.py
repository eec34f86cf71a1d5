"""FeedHub: every listener gets each event once, in order, whatever the log brings and when."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from eventfleet.domains.orders import orders
from eventfleet.feeds import feed_hub
from eventfleet.feeds.channel_names import ChannelNames
from eventfleet.feeds.feed_hub import (
    EventBroadcast,
    EventSequence,
    FeedHub,
    FeedListener,
    TooSlow,
    encode_frame,
)
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryFollower, MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import declare_topics
from examples.chat.domain import chat
from tests.unit.room_events import record, sent

PATIENCE = 20.0


def event(version: int, room: str = "r") -> EventRecord:
    return record(room, version, sent(version))


class Failing(MemoryEvents):
    """An event store that fails for the next so many queries of heads."""

    failures = 0

    async def heads(self, *asked: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise ServerUnavailable("heads failed")
        return await super().heads(*asked)


class Rooms:
    """A hub over servers in memory."""

    def __init__(self) -> None:
        self.log, self.events = MemoryLog(), Failing(domain="chat")
        self.channels = MemoryChannels()
        for spec in declare_topics(Topics.of("chat", ""), 2, 1, -1):
            self.log.create(spec)
        self._producer = MemoryProducer(self.log)
        stores = DomainStores(self.events, MemorySnapshots(3))
        queries = Querier(chat, stores, SystemClock())
        self.hub = FeedHub(MemoryFollower(self.log), self.channels, chat, queries, 2)

    async def store(self, *versions: int, room: str = "r") -> None:
        for version in versions:
            await self.events.put([event(version, room)], 0)

    async def produce(self, *versions: int, room: str = "r", partition: int = 0) -> None:
        for version in versions:
            value = encode(event(version, room))
            record = ProducerRecord("chat.events", room.encode(), value, partition, EVENT_HEADERS)
            await self._producer.produce([record])


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    rooms = Rooms()
    async with rooms.hub.running():
        yield rooms


async def heard(listener: FeedListener, count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE):
        frames = [json.loads(await listener.next()) for _ in range(count)]
        return [frame["event"]["version"] for frame in frames]


async def test_a_listener_hears_what_comes_after_it_came(rooms: Rooms) -> None:
    await rooms.store(1, 2, 3)
    await rooms.produce(1, 2)
    async with rooms.hub.listen("r") as listener:
        assert listener.version == 3
        await rooms.produce(3, 4, 5, room="r")
        assert await heard(listener, 2) == [4, 5]


async def test_events_of_an_asynchronous_domain_come_once_they_are_stored() -> None:
    log, events = MemoryLog(), MemoryEvents(domain="orders")
    for spec in declare_topics(Topics.of("orders", ""), 1, 1, -1):
        log.create(spec)
    queries = Querier(orders, DomainStores(events, MemorySnapshots(3)), SystemClock())
    hub = FeedHub(MemoryFollower(log), MemoryChannels(), orders, queries, 1)
    async with hub.running(), hub.listen("r") as listener:
        for topic, version in (("orders.events", 1), ("orders.stored", 1), ("orders.stored", 2)):
            log.append(ProducerRecord(topic, b"r", encode(event(version)), 0, EVENT_HEADERS))
        assert await heard(listener, 2) == [1, 2]


async def test_all_listeners_of_a_room_hear_it_and_no_others(rooms: Rooms) -> None:
    async with (
        rooms.hub.listen("r") as one,
        rooms.hub.listen("r") as other,
        rooms.hub.listen("s") as elsewhere,
    ):
        await rooms.produce(1, 2, partition=1)
        await rooms.produce(1, room="s")
        assert [await heard(each, 2) for each in (one, other)] == [[1, 2], [1, 2]]
        assert await heard(elsewhere, 1) == [1]


async def test_events_out_of_order_and_again_are_put_right(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as listener:
        await rooms.produce(2, 1, 3, 1, 2, 5, 4, 3)
        assert await heard(listener, 5) == [1, 2, 3, 4, 5]


async def test_an_event_that_was_never_produced_is_read_from_the_store(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as listener:
        await rooms.store(1, 2, 3)
        rooms.events.failures = 1
        await rooms.produce(3)
        assert await heard(listener, 3) == [1, 2, 3]


async def test_who_comes_between_two_events_gets_the_later_ones(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as first:
        await rooms.store(1)
        await rooms.produce(1)
        await heard(first, 1)
        async with rooms.hub.listen("r") as second:
            await rooms.produce(2)
            assert (await heard(first, 1), await heard(second, 1)) == ([2], [2])


async def test_a_room_that_can_not_be_read_is_opened_once_it_can(rooms: Rooms) -> None:
    rooms.events.failures = 1
    with pytest.raises(ServerUnavailable):
        async with rooms.hub.listen("r"):
            pass
    async with rooms.hub.listen("r") as listener:
        await rooms.produce(1)
        assert await heard(listener, 1) == [1]


async def test_a_room_that_is_not_opened_in_time_is_not_the_clients_fault(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_hub, "OPEN_SECONDS", 0.01)
    rooms.hub._following.clear()
    with pytest.raises(ServerUnavailable, match="could not be opened in time"):
        async with rooms.hub.listen("r"):
            pass


async def test_a_client_that_takes_no_frames_is_not_said_to_be_unopened(rooms: Rooms) -> None:
    with pytest.raises(TimeoutError):
        async with rooms.hub.listen("r"):
            raise TimeoutError


async def test_what_is_no_event_is_passed_over(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as listener:
        for value in (b"{}", b"nothing", None):
            record = ProducerRecord("chat.events", b"r", value, 0, EVENT_HEADERS)  # type: ignore[arg-type]
            rooms.log.append(record)
        await rooms.produce(1)
        assert await heard(listener, 1) == [1]


async def test_an_event_that_is_broadcast_comes_before_the_log_has_it_and_once(
    rooms: Rooms,
) -> None:
    async with (
        EventBroadcast(rooms.channels, "chat").running() as broadcast,
        rooms.hub.listen("r") as ear,
    ):
        broadcast.announce([event(1), event(2, "another")])
        assert await heard(ear, 1) == [1]
        await rooms.produce(1, 2)
        assert await heard(ear, 1) == [2]


async def test_events_beyond_the_limit_of_the_broadcast_come_by_the_log(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_hub, "MAX_BEING_PUBLISHED", 2)
    async with (
        EventBroadcast(rooms.channels, "chat").running() as broadcast,
        rooms.hub.listen("r") as ear,
    ):
        broadcast.announce([event(version) for version in range(1, 6)])
        assert len(broadcast._being_published) == 2
        await rooms.produce(1, 2, 3, 4, 5)
        assert await heard(ear, 5) == [1, 2, 3, 4, 5]


def test_no_channel_of_a_domain_is_one_of_another() -> None:
    for one, other in (("chat", "orders"), ("chat", "chat-2"), ("a", "b")):
        names = [*ChannelNames.of(one), *ChannelNames.of(other)]
        assert len(set(names)) == len(names) == 8
        assert all(name.startswith(f"eventfleet.feeds.{one}.") for name in names[:4])


async def test_a_broadcast_that_is_no_event_changes_nothing(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as listener:
        await rooms.channels.publish(
            {ChannelNames.of("chat").events: [b"{}", b"nothing", encode(event(1))]}
        )
        assert await heard(listener, 1) == [1]


async def test_without_channels_the_log_brings_the_events(rooms: Rooms) -> None:
    rooms.channels.stop()
    async with (
        EventBroadcast(rooms.channels, "chat").running() as broadcast,
        rooms.hub.listen("r") as ear,
    ):
        broadcast.announce([event(1)])
        await rooms.produce(1)
        assert await heard(ear, 1) == [1]


class Interrupted(MemoryFollower):
    """A follower that is interrupted for a while, in which it misses records."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.interrupt, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def follow(self, topic: str, partitions: int) -> Any:
        if self.interrupt.is_set():
            await self.go_on.wait()
        async with super().follow(topic, partitions) as records:
            yield self._until_interrupted(records)

    async def _until_interrupted(self, records: Any) -> Any:
        pending = asyncio.ensure_future(anext(records))
        interrupt = asyncio.ensure_future(self.interrupt.wait())
        while True:
            wanted = {pending} if self.go_on.is_set() else {pending, interrupt}
            await asyncio.wait(wanted, return_when=asyncio.FIRST_COMPLETED)
            if pending.done():
                yield pending.result()
                pending = asyncio.ensure_future(anext(records))
            elif not self.go_on.is_set():
                pending.cancel()
                raise ServerUnavailable("interrupted")


async def test_what_the_log_has_while_it_is_not_followed_is_read_from_the_store() -> None:
    rooms = Rooms()
    follower = Interrupted(rooms.log)
    rooms.hub._follower = follower
    async with rooms.hub.running(), rooms.hub.listen("r") as listener:
        follower.interrupt.set()
        await asyncio.sleep(0.05)
        await rooms.store(1, 2)
        await rooms.produce(1, 2)
        follower.go_on.set()
        assert await heard(listener, 2) == [1, 2]


async def test_a_listener_that_takes_nothing_is_told_and_costs_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_hub, "MAX_WAITING_EVENTS", 3)
    slow = FeedListener(0)
    for version in range(1, 10):
        slow.put(encode_frame(event(version)))
    assert await heard(slow, 3) == [1, 2, 3]
    slow.put(encode_frame(event(10)))
    with pytest.raises(TooSlow, match=r"^the client let 3 events wait$"):
        await slow.next()


async def test_who_stays_hears_on_when_another_leaves(rooms: Rooms) -> None:
    async with rooms.hub.listen("r") as stays:
        async with rooms.hub.listen("r"):
            pass
        await rooms.produce(1)
        assert await heard(stays, 1) == [1]


async def test_what_was_missed_is_read_page_by_page(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_hub, "PAGE_EVENTS", 2)
    async with rooms.hub.listen("r") as lagging:
        await rooms.store(*range(1, 10))
        async with rooms.hub.listen("r", after=3) as back:
            assert back.version == 4
        rooms.hub._feeds["r"].fill()
        assert await heard(lagging, 9) == list(range(1, 10))


async def test_a_version_that_no_store_has_is_not_waited_for(rooms: Rooms) -> None:
    async with rooms.hub.listen("r"):
        await rooms.store(1, 2, 3)
        async with rooms.hub.listen("r", after=9) as ahead:
            assert ahead.version == 3
            await rooms.produce(4)
            assert await heard(ahead, 1) == [4]


async def test_rooms_that_nobody_listens_to_are_left(rooms: Rooms) -> None:
    async with AsyncExitStack() as stack:
        for number in range(20):
            await stack.enter_async_context(rooms.hub.listen(f"room-{number % 10}"))
        assert len(rooms.hub._feeds) == 10
    assert not rooms.hub._feeds


def test_a_sequence_gives_each_event_once_in_order() -> None:
    chance = random.Random(5)
    for _ in range(200):
        sequence, taken = EventSequence(3), []
        brought = [event(n) for n in range(1, 31)] * 2
        chance.shuffle(brought)
        for each in brought:
            taken += sequence.take(each)
        assert [each.version for each in taken] == list(range(4, 31))
        assert (sequence.version, sequence.held) == (30, {})


def test_a_sequence_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_hub, "MAX_HELD_EVENTS", 3)
    sequence = EventSequence(0)
    for version in (5, 4, 3, 2):
        assert not sequence.take(event(version))
    assert [each.version for each in sequence.take(event(1))] == [1]
    assert [each.version for each in sequence.take(event(2))] == [2, 3, 4, 5]
