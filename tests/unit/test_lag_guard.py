"""How far append has surely come, as the lag guard tells it."""

from datetime import UTC, datetime
from typing import Any

from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.deciders.lag_guard import (
    MAX_REST_SHARE,
    REST_SECONDS,
    UPDATE_SECONDS,
    LagGuard,
)
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Incarnation
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryReader
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import declare_topics

EXPIRY = 100.0
SOURCE = "p.orders.append", "orders.events"


class GuardClock(SystemClock):
    """Steady time goes on as it is told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def steady(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


class GuardServers:
    """A log of two partitions, a Redis, and a guard that looks at them."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.log = MemoryLog()
        for spec in declare_topics(Topics.of("orders", ""), 2, 1, -1):
            self.log.create(spec)
        self.redis = MemoryRedis(lambda: self.time)
        terms = MarkerTimeouts(EXPIRY, 1.0, EXPIRY)
        self.markers = MemoryMarkers(self.redis, "orders", terms)
        self.reader = MemoryReader(self.log)
        self.clock = GuardClock()
        events = MemoryEvents()
        incarnations = IncarnationReader(
            *(self.markers, events.registry, MemoryReader(self.log), "orders.events", events)
        )
        self.guard = LagGuard(
            *(incarnations, self.reader, events, self.clock),
            group="p.orders.append",
            topic="orders.events",
            expiry=EXPIRY,
        )
        self.wanted = 0
        self.guard.want_update = self.want

    def want(self) -> None:
        self.wanted += 1

    def produce(self, partition: int = 0) -> None:
        self.log.append(ProducerRecord("orders.events", b"k", b"v", partition))

    def append(self, offset: int, partition: int = 0) -> None:
        self.log.offsets[*SOURCE, partition] = offset

    async def update(self, seconds: float = 1.0, passed: float | None = None) -> Incarnation:
        """Update after so many seconds of Redis' clock, and as many have `passed` or others."""
        self.time += seconds
        self.clock.seconds += abs(seconds) if passed is None else passed
        await self.guard.update()
        return await self.guard.incarnation()


async def test_before_the_first_beat_nothing_holds() -> None:
    servers = GuardServers()
    assert not servers.guard.is_caught_up(0, await servers.guard.incarnation())
    assert not servers.guard.has_appended(0, 0)


async def test_a_partition_without_records_holds_before_append_has_an_offset() -> None:
    servers = GuardServers()
    incarnation = await servers.update()
    assert servers.guard.is_caught_up(0, incarnation)
    assert servers.guard.is_caught_up(1, incarnation)
    assert not servers.guard.is_caught_up(2, incarnation)


async def test_it_holds_once_append_has_come_to_where_the_log_ended() -> None:
    servers = GuardServers()
    servers.produce()
    servers.produce()
    servers.append(1)
    incarnation = await servers.update()
    assert not servers.guard.is_caught_up(0, incarnation)
    assert servers.guard.is_caught_up(1, incarnation)
    servers.append(2)
    assert servers.guard.is_caught_up(0, await servers.update())


async def test_what_comes_meanwhile_does_not_put_it_off() -> None:
    servers = GuardServers()
    servers.produce()
    incarnation = await servers.update()
    servers.produce()
    servers.append(1)
    await servers.update()
    assert servers.guard.is_caught_up(0, incarnation)


async def test_it_holds_for_half_an_expiry_while_append_stands_still() -> None:
    servers = GuardServers()
    await servers.update()
    servers.produce()
    assert servers.guard.is_caught_up(0, await servers.update(EXPIRY / 2 - 1))
    assert not servers.guard.is_caught_up(0, await servers.update(EXPIRY / 4))


async def test_what_was_appended_in_a_former_life_says_nothing_of_this_one() -> None:
    servers = GuardServers()
    await servers.update()
    servers.produce()
    servers.redis.flush()
    assert not servers.guard.is_caught_up(0, await servers.update())
    servers.append(1)
    await servers.update()
    assert servers.guard.is_caught_up(0, await servers.update())


async def test_what_was_appended_by_another_servers_clock_says_nothing_of_this_one() -> None:
    servers = GuardServers()
    await servers.update()
    servers.produce()
    servers.redis.restart()
    assert not servers.guard.is_caught_up(0, await servers.update(-500))
    servers.append(1)
    assert servers.guard.is_caught_up(0, await servers.update())


async def test_a_look_during_which_the_server_changes_says_nothing_of_the_new_one() -> None:
    servers = GuardServers()
    servers.produce()
    servers.append(1)
    watermarks = servers.reader.watermarks

    async def failed_over(topic: str) -> Any:
        found = await watermarks(topic)
        servers.redis.restart()
        servers.time -= 500
        servers.produce()
        await servers.guard.refresh_incarnation()
        return found

    servers.reader.watermarks = failed_over  # type: ignore[method-assign]
    assert not servers.guard.is_caught_up(0, await servers.update())


async def test_after_half_an_expiry_a_look_is_taken_again_though_redis_clock_says_less() -> None:
    servers = GuardServers()
    incarnation = await servers.update()
    servers.produce()
    for _ in range(6):
        servers.clock.seconds += REST_SECONDS - 1
        incarnation = await servers.guard.incarnation()
    assert not servers.guard.is_caught_up(0, incarnation)


async def test_what_was_appended_before_the_clock_stepped_back_says_nothing() -> None:
    servers = GuardServers()
    await servers.update()
    await servers.update(2 * EXPIRY)
    servers.produce()
    assert not servers.guard.is_caught_up(0, await servers.update(-EXPIRY))
    servers.append(1)
    assert servers.guard.is_caught_up(0, await servers.update())


async def test_a_step_back_shows_also_where_more_time_has_passed_since() -> None:
    servers = GuardServers()
    await servers.update()
    await servers.update(EXPIRY)
    servers.produce()
    assert servers.guard.is_caught_up(0, await servers.update(EXPIRY / 4))
    assert not servers.guard.is_caught_up(0, await servers.update(1.0, passed=EXPIRY))


async def test_a_look_that_another_has_overtaken_is_no_step_back() -> None:
    servers = GuardServers()
    await servers.update()
    await servers.update(EXPIRY / 4)
    servers.produce()
    read, now = servers.markers.incarnation, servers.time

    async def overtaken() -> Incarnation:
        found = await read()
        servers.markers.incarnation = read  # type: ignore[method-assign]
        servers.time += 0.5
        servers.clock.seconds += 0.5
        await servers.guard.refresh_incarnation()
        return found._replace(now=now)

    servers.markers.incarnation = overtaken  # type: ignore[method-assign]
    assert servers.guard.is_caught_up(0, await servers.guard.refresh_incarnation())


async def test_an_offset_is_passed_when_append_has_committed_one_past_it() -> None:
    servers = GuardServers()
    servers.append(3)
    await servers.update()
    assert servers.guard.has_appended(0, 2)
    assert not servers.guard.has_appended(0, 3)
    assert not servers.guard.has_appended(1, 0)


async def test_a_look_renews_life_and_time_and_nothing_else() -> None:
    servers = GuardServers()
    before = await servers.update()
    servers.time += 5
    assert await servers.guard.incarnation() == before
    after = await servers.guard.refresh_incarnation()
    assert (after.id, after.began) == (before.id, before.began)
    assert after.now == servers.time
    assert await servers.guard.incarnation() == after


async def test_an_update_is_wanted_for_what_it_could_not_tell() -> None:
    servers = GuardServers()
    servers.produce()
    incarnation = await servers.update()
    assert servers.guard.is_caught_up(1, incarnation)
    assert not servers.wanted
    assert not servers.guard.is_caught_up(0, incarnation)
    assert servers.wanted == 1
    assert not servers.guard.has_appended(0, 0)
    assert servers.wanted == 2


async def test_a_guard_that_nobody_asks_rests_and_the_first_question_ends_that() -> None:
    servers = GuardServers()
    before = await servers.update()
    assert servers.guard.update_seconds == UPDATE_SECONDS
    servers.clock.seconds += REST_SECONDS
    servers.time += REST_SECONDS
    assert servers.guard.update_seconds == EXPIRY * MAX_REST_SHARE
    assert servers.guard.is_caught_up(0, before)
    after = await servers.guard.incarnation()
    assert (after.id, int(after.now)) == (before.id, servers.time)
    assert servers.wanted == 1
    assert servers.guard.update_seconds == UPDATE_SECONDS
