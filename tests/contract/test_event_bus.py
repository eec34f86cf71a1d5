"""The contract of event buses, sentence by sentence, over every implementation."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import nats
import pytest
from redis.asyncio import Redis as RedisClient

from eventfleet.buses import (
    DocumentEvent,
    EventBus,
    MemoryBus,
    NatsBus,
    RedisBus,
    RedisPubSubBus,
)
from eventfleet.buses.errors import BusRestarted
from eventfleet.errors import (
    AccessRefused,
    DeclarationError,
    InvalidRecord,
    Misconfigured,
    ServerUnavailable,
    StoreError,
)
from eventfleet.stores.background_task import background_tasks
from tests.conftest import running
from tests.contract.bus_openings import KEEPING, REMOTE, Buses
from tests.contract.bus_openings import bus as bus
from tests.contract.bus_openings import buses as buses
from tests.contract.bus_openings import few_tries as few_tries
from tests.contract.document_openings import eventually
from tests.servers.redis import Redis
from tests.servers.server import free_port
from tests.unit.eventually import until

TIME = datetime(2026, 1, 1, tzinfo=UTC)

MakeBus = Callable[..., Any]


def event(number: int, event_type: str = "UserCreated") -> DocumentEvent:
    return DocumentEvent(
        id=f"e{number}",
        event_type=event_type,
        aggregate_id="u1",
        aggregate_type="User",
        version=number,
        timestamp=TIME,
        data={"n": number},
    )


class Seen:
    """A subscriber that notes what it gets; it fails for these numbers, so many times."""

    def __init__(self, **fails: int) -> None:
        self.events: list[DocumentEvent] = []
        self.fails = fails

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.events]

    async def handle_event(self, event: DocumentEvent) -> None:
        if self.fails.get(event.id, 0):
            self.fails[event.id] -= 1
            raise ZeroDivisionError(f"no {event.id}")
        self.events.append(event)


# Publishing and subscribing


async def test_events_come_as_they_were_in_the_order_of_the_bus(bus: EventBus) -> None:
    seen = Seen()
    bus.subscribe("*", seen, "all")
    async with bus:
        events = [event(n) for n in range(50)]
        await bus.publish(events[:20])
        await bus.publish(events[20:])
        await until(lambda: len(seen.events) == 50)
    assert seen.events == events


async def test_a_pattern_chooses_among_the_types(bus: EventBus) -> None:
    exact, prefixed, every = Seen(), Seen(), Seen()
    bus.subscribe("UserCreated", exact, "exact")
    bus.subscribe("User*", prefixed, "prefixed")
    bus.subscribe("*", every, "every")
    async with bus:
        types = ["UserCreated", "UserUpdated", "GameCreated"]
        await bus.publish([event(n, each) for n, each in enumerate(types)])
        await until(lambda: len(every.events) == 3)
        await until(lambda: len(prefixed.events) == 2)
        await until(lambda: len(exact.events) == 1)
    assert (exact.ids, prefixed.ids) == (["e0"], ["e0", "e1"])


async def test_functions_and_objects_subscribe(bus: EventBus) -> None:
    noted: list[str] = []

    def function(event: DocumentEvent) -> None:
        noted.append(f"function {event.id}")

    async def coroutine(event: DocumentEvent) -> None:
        noted.append(f"coroutine {event.id}")

    class Handler:
        def handle_event(self, event: DocumentEvent) -> None:
            noted.append(f"object {event.id}")

    for subscriber in (function, coroutine, Handler()):
        bus.subscribe("*", subscriber)
    async with bus:
        await bus.publish([event(1)])
        await until(lambda: len(noted) == 3)
    assert sorted(noted) == ["coroutine e1", "function e1", "object e1"]


def handler(number: int) -> Callable[[DocumentEvent], None]:
    def handle(event: DocumentEvent) -> None:
        handled.append(number)

    handled: list[int] = []
    return handle


ALIKE: dict[str, tuple[Any, Any]] = {
    "lambdas": (lambda event: None, lambda event: print(event)),
    "objects": (Seen(), Seen()),
    "methods of two objects": (Seen().handle_event, Seen().handle_event),
    "partials": (partial(print, 1), partial(print, 2)),
    "closures": (handler(1), handler(2)),
}


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
async def test_two_subscribers_of_one_derived_group_are_refused(
    bus: EventBus, pair: tuple[Any, Any]
) -> None:
    one, other = pair
    bus.subscribe("User*", one)
    with pytest.raises(DeclarationError, match=r"two subscribers of 'User\*'.*name a group"):
        bus.subscribe("User*", other)
    bus.subscribe("User*", other, "other")
    bus.subscribe("User*", one)
    bus.subscribe("Game*", other)


async def test_each_try_of_each_subscriber_gets_an_event_of_its_own(bus: EventBus) -> None:
    seen: list[Any] = []

    def spoil(event: DocumentEvent) -> None:
        seen.append(dict(event.data))
        event.data["n"] = "spoilt"
        if len(seen) == 1:
            raise ZeroDivisionError

    bus.subscribe("*", spoil, "first")
    bus.subscribe("*", spoil, "second")
    published = event(1)
    async with bus:
        await bus.publish([published])
        published.data["n"] = "spoilt"
        await until(lambda: len(seen) == 3)
    assert seen == [{"n": 1}] * 3


async def lose_data(bus: Any) -> None:
    """Delete what a server holds of a bus, as a restart without its data would."""
    if isinstance(bus, RedisBus):
        for key in await bus._client.keys(f"{bus._channel}*"):
            await bus._client.delete(key)
    else:
        for stream in (bus._stream, bus._dead_letters):
            await bus._jetstream.delete_stream(stream)


@pytest.mark.parametrize("buses", REMOTE, indirect=True)
async def test_a_group_that_a_server_has_lost_begins_at_the_start(buses: Buses) -> None:
    bus: Any = await buses()
    seen, late = Seen(), Seen()
    bus.subscribe("*", seen, "billing")
    async with bus:
        first = await bus.incarnation("")
        assert await bus.publish_in(first, [event(1)]) > 0
        await until(lambda: seen.ids == ["e1"])
        await lose_data(bus)
        with pytest.raises(BusRestarted):
            await bus.publish_in(first, [event(2)])
        second = await bus.incarnation(first)
        assert second != first
        assert await bus.incarnation(first) == second
        with pytest.raises(BusRestarted):
            await bus.confirmed(first)
        await bus.publish_in(second, [event(2)])
        await until(lambda: seen.ids == ["e1", "e2"])
    newcomer = await buses()
    newcomer.subscribe("*", late, "table")
    async with newcomer:
        await until(lambda: late.ids == ["e2"])


@pytest.mark.parametrize("buses", REMOTE, indirect=True)
async def test_a_bus_tells_what_each_group_has_handled(buses: Buses) -> None:
    bus: Any = await buses()
    seen, release = Seen(), asyncio.Event()

    async def wait(event: DocumentEvent) -> None:
        if event.id == "e2":
            await release.wait()

    bus.subscribe("*", seen, "billing")
    bus.subscribe("*", wait, "table")
    async with bus:
        present = await bus.incarnation("")
        assert present == await bus.incarnation(present)
        first = await bus.publish_in(present, [event(1)])
        last = await bus.publish_in(present, [event(2), event(3)])

        async def handled_by_billing() -> bool:
            return bool((await bus.confirmed(present)).get("billing") == last)

        await eventually(handled_by_billing)
        assert first <= (await bus.confirmed(present))["table"] < last
        release.set()

        async def handled() -> bool:
            return bool(await bus.confirmed(present) == {"billing": last, "table": last})

        await eventually(handled)


@pytest.mark.parametrize("buses", KEEPING, indirect=True)
async def test_subscribers_of_one_group_share_the_events(buses: Buses) -> None:
    one, other, alone = Seen(), Seen(), Seen()
    first, second = await buses(), await buses()
    first.subscribe("*", one, "shared")
    second.subscribe("*", other, "shared")
    second.subscribe("*", alone, "alone")
    async with first, second:
        for n in range(40):
            await first.publish([event(n)])
        await until(lambda: len(one.events) + len(other.events) >= 40 and len(alone.events) == 40)
    assert sorted(one.ids + other.ids) == sorted(f"e{n}" for n in range(40))


async def test_one_may_subscribe_to_a_started_bus(bus: EventBus) -> None:
    seen = Seen()
    async with bus:
        bus.subscribe("*", seen, "late")

        async def arrived() -> None:
            number = 0
            while not seen.events:
                await bus.publish([event(number := number + 1)])
                await asyncio.sleep(0.05)

        async with asyncio.timeout(20):
            await arrived()


class OwnSerializer:
    """A serializer of a team's own, whose bytes the default one can't read."""

    def encode(self, event: DocumentEvent) -> bytes:
        return b"own:" + msgspec.msgpack.encode(event)

    def decode(self, value: bytes) -> DocumentEvent:
        if not value.startswith(b"own:"):
            raise InvalidRecord("value", "is not ours")
        return msgspec.msgpack.decode(value[4:], type=DocumentEvent)


@pytest.mark.parametrize("buses", REMOTE, indirect=True)
async def test_a_serializer_of_ones_own_writes_and_reads_the_events(buses: Buses) -> None:
    bus, default, seen, unread = await buses(OwnSerializer()), await buses(), Seen(), Seen()
    bus.subscribe("*", seen, "own")
    default.subscribe("*", unread, "default")
    async with bus, default:
        await bus.publish([event(1), event(2)])
        await until(lambda: len(seen.events) == 2)
    assert seen.events == [event(1), event(2)]
    assert unread.events == []


# What a handler raises


async def test_what_a_handler_raises_is_tried_again(bus: EventBus) -> None:
    seen = Seen(e1=2)
    bus.subscribe("*", seen, "all")
    async with bus:
        await bus.publish([event(1), event(2)])
        await until(lambda: len(seen.events) == 2)
        assert await bus.dead_letters() == []
    assert seen.ids == ["e1", "e2"]


async def test_what_is_never_handled_is_kept_and_can_be_given_again(bus: EventBus) -> None:
    seen, other = Seen(e1=3), Seen()
    bus.subscribe("*", seen, "failing")
    bus.subscribe("*", other, "other")
    async with bus:
        await bus.publish([event(1), event(2)])
        await until(lambda: seen.ids == ["e2"])
        [kept] = await bus.dead_letters()
        assert (kept.group, kept.event) == ("failing", event(1))
        assert kept.reason == "ZeroDivisionError: no e1"
        assert kept.time.tzinfo is UTC
        await bus.redeliver(kept)
        await until(lambda: seen.ids == ["e2", "e1"])
        assert await bus.dead_letters() == []
        await until(lambda: other.ids == ["e1", "e2"])


async def test_dead_letters_in_memory_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventfleet.buses.memory_bus.MAX_DEAD_LETTERS", 2)
    bus, seen = MemoryBus(), Seen(e1=3, e2=3, e3=3)
    bus.subscribe("*", seen, "failing")
    async with bus:
        await bus.publish([event(n) for n in range(1, 5)])
        await until(lambda: seen.ids == ["e4"])
        assert [kept.event for kept in await bus.dead_letters()] == [event(2), event(3)]
    assert "a dead letter is dropped" in caplog.text


@pytest.mark.parametrize("buses", REMOTE, indirect=True)
async def test_what_can_t_be_read_is_kept_and_can_be_given_again(buses: Buses) -> None:
    writer, reader, seen = await buses(OwnSerializer()), await buses(), Seen()
    reader.subscribe("*", seen, "reading")
    async with writer, reader:
        await writer.publish([event(1)])
        await reader.publish([event(2)])
        await until(lambda: seen.ids == ["e2"])
        [kept] = await reader.dead_letters()
        assert (kept.group, kept.event) == ("reading", None)
        assert kept.reason.startswith("unreadable: value: is not UTF-8")
        [again] = await writer.dead_letters()
        assert again.event == event(1), "who can read it sees what it is"
    repaired = await buses(OwnSerializer())
    repaired.subscribe("*", seen, "reading")
    async with repaired:
        await repaired.redeliver(kept)
        await until(lambda: seen.ids == ["e2", "e1"])
        assert await repaired.dead_letters() == []


# Starting and stopping


async def test_stopping_lets_the_handler_in_progress_finish(bus: EventBus) -> None:
    begun, finished = asyncio.Event(), []

    async def slow(event: DocumentEvent) -> None:
        begun.set()
        await asyncio.sleep(0.2)
        finished.append(event.id)

    bus.subscribe("*", slow, "slow")
    async with bus:
        await bus.publish([event(1)])
        await asyncio.wait_for(begun.wait(), 20)
    assert finished == ["e1"]


@pytest.mark.parametrize("buses", KEEPING, indirect=True)
async def test_what_a_stopped_bus_had_in_hand_is_delivered_by_another(buses: Buses) -> None:
    begun = asyncio.Event()
    handled: list[str] = []

    async def slow(event: DocumentEvent) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        handled.append(event.id)

    first = await buses()
    first.subscribe("*", slow, "group")
    async with first:
        await first.publish([event(n) for n in range(5)])
        await asyncio.wait_for(begun.wait(), 20)
    assert len(handled) < 5
    second = await buses()
    if second is not first:
        second.subscribe("*", slow, "group")
    async with second:
        await until(lambda: set(handled) == {f"e{n}" for n in range(5)})


@pytest.mark.parametrize("buses", REMOTE, indirect=True)
async def test_what_a_consumer_that_died_had_in_hand_is_taken_over(buses: Buses) -> None:
    first, second = await buses(), await buses()
    begun = asyncio.Event()
    seen = Seen()

    async def stuck(event: DocumentEvent) -> None:
        begun.set()
        await asyncio.Event().wait()

    first.subscribe("*", stuck, "group")
    await first.start()
    await first.publish([event(1), event(2)])
    await asyncio.wait_for(begun.wait(), 20)
    for task in first._groups._tasks.values():  # type: ignore[attr-defined]
        await task.end()
    second.subscribe("*", seen, "group")
    async with second:
        await until(lambda: sorted(seen.ids) == ["e1", "e2"])
    await first.stop()


@pytest.mark.parametrize("buses", ["redis", "nats"], indirect=True)
async def test_a_client_that_is_handed_in_stays_open(buses: Buses) -> None:
    bus: Any = await buses()
    bus.subscribe("*", Seen(), "all")
    async with bus:
        await bus.publish([event(1)])
    again = bus._client.ping if isinstance(bus, RedisBus) else bus._client.flush
    await again()


@pytest.mark.parametrize("kind", [RedisBus, RedisPubSubBus])
async def test_a_start_that_fails_says_why(kind: type[Any], prefix: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with RedisClient.from_url(f"redis://{address}/0") as client:
        bus = kind(client, prefix)
        with pytest.raises(ServerUnavailable, match=prefix):
            await bus.start()


async def test_a_start_on_a_lost_connection_to_nats_says_why(nats_url: str, prefix: str) -> None:
    client = await nats.connect(nats_url)
    await client.close()
    with pytest.raises(ServerUnavailable, match=f"starting, NATS stream {prefix}: .*[Cc]lose"):
        await NatsBus(client, prefix).start()


async def test_a_start_on_a_nats_stream_of_anothers_says_why(nats_url: str, prefix: str) -> None:
    async with await nats.connect(nats_url) as client:
        await client.jetstream().add_stream(name=f"other-{prefix}", subjects=[f"{prefix}.*"])
        with pytest.raises(Misconfigured, match=f"NATS stream {prefix}: .*subjects overlap"):
            await NatsBus(client, prefix).start()


async def test_a_channel_that_is_something_else_is_refused(redis_url: str, prefix: str) -> None:
    async with RedisClient.from_url(redis_url) as client:
        await client.set(prefix, "text")
        bus = RedisBus(client, prefix)
        bus.subscribe("*", Seen(), "all")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await bus.start()
        assert await client.get(prefix) == b"text"


# Publish and subscribe, which keeps nothing


async def test_every_process_that_is_connected_gets_what_is_published(
    redis_url: str, prefix: str
) -> None:
    async with RedisClient.from_url(redis_url) as one, RedisClient.from_url(redis_url) as other:
        first, second = RedisPubSubBus(one, prefix), RedisPubSubBus(other, prefix)
        here, there = Seen(), Seen()
        first.subscribe("*", here, "group")
        second.subscribe("*", there, "group")
        async with first:
            await first.publish([event(1)])  # the second is not connected yet: it misses this
            await until(lambda: here.ids == ["e1"])
            async with second:
                await first.publish([event(2)])
                await until(lambda: there.ids == ["e2"])
        assert here.ids == ["e1", "e2"]


@pytest.mark.parametrize("kind", [RedisBus, RedisPubSubBus])
async def test_a_subscription_outlives_a_redis_that_is_killed(kind: type[Any], prefix: str) -> None:
    with running(Redis) as server:
        async with RedisClient.from_url(server.url) as client:
            bus, seen = kind(client, prefix), Seen()
            bus.subscribe("*", seen, "all")
            async with bus:
                await bus.publish([event(1)])
                await until(lambda: seen.ids == ["e1"])
                server.kill()
                with pytest.raises(ServerUnavailable):
                    await bus.publish([event(2)])
                server.start()

                async def arrived() -> None:
                    while "e3" not in seen.ids:
                        # The caller's client may have more connections that the kill has closed.
                        with suppress(ServerUnavailable):
                            await bus.publish([event(3)])
                        await asyncio.sleep(0.1)

                async with asyncio.timeout(30):
                    await arrived()
                await until(lambda: not any(task.problem for task in background_tasks()))
    assert "e2" not in seen.ids


async def test_a_right_to_subscribe_that_is_missing_is_named_by_the_start(
    redis_url: str, prefix: str
) -> None:
    async with RedisClient.from_url(redis_url) as admin:
        await admin.execute_command(f"ACL SETUSER {prefix} on >pass ~* resetchannels +@all")
    url = redis_url.replace("redis://", f"redis://{prefix}:pass@")
    async with RedisClient.from_url(url) as client:
        bus = RedisPubSubBus(client, prefix)
        with pytest.raises(AccessRefused, match=f"channel {prefix}.*lacks a right"):
            await bus.start()
        assert background_tasks() == []
        assert await client.ping()


async def test_a_bus_that_was_stopped_may_start_again(redis_url: str, prefix: str) -> None:
    async with RedisClient.from_url(redis_url) as client:
        bus, seen = RedisPubSubBus(client, prefix), Seen()
        bus.subscribe("*", seen, "all")
        async with bus:
            await bus.publish([event(1)])
            await until(lambda: seen.ids == ["e1"])
        await bus.publish([event(2)])
        async with bus:
            await bus.publish([event(3)])
            await until(lambda: seen.ids == ["e1", "e3"])
    assert background_tasks() == []


@pytest.mark.parametrize("kind", [RedisBus, RedisPubSubBus])
async def test_a_server_that_hangs_is_left_in_time_and_found_again(
    kind: type[Any], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client itself would wait for ever."""
    module = sys.modules[kind.__module__]
    quiet = "BLOCK_MS" if kind is RedisBus else "QUIET_SECONDS"
    monkeypatch.setattr(module, quiet, type(getattr(module, quiet))(getattr(module, quiet) / 50))
    with running(Redis) as server:
        options: Any = {"socket_timeout": None, "retry": None}
        async with RedisClient.from_url(server.url, **options) as client:
            bus, seen = kind(client, prefix), Seen()
            bus.subscribe("*", seen, "all")
            async with bus:
                await asyncio.sleep(0.4)  # quiet, and several answers that nothing is there
                assert not any(task.failures for task in background_tasks())
                monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
                server.signal(signal.SIGSTOP)
                await until(lambda: any(task.problem for task in background_tasks()))
                monkeypatch.setattr(module, "TIMEOUT_SECONDS", 10.0)
                server.signal(signal.SIGCONT)
                await until(lambda: not any(task.problem for task in background_tasks()))
                await bus.publish([event(1)])
                await until(lambda: seen.ids == ["e1"])


async def test_what_is_no_event_on_the_channel_is_passed_over(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisClient.from_url(redis_url) as client:
        bus, seen = RedisPubSubBus(client, prefix), Seen()
        bus.subscribe("*", seen, "all")
        async with bus:
            await client.publish(prefix, b"no event")
            await bus.publish([event(1)])
            await until(lambda: seen.ids == ["e1"])
            assert not any(task.problem for task in background_tasks())
    assert f"channel {prefix}: what is no event is passed over" in caplog.text
