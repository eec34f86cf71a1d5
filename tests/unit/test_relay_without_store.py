"""Relay while MongoDB is away: it needs the log alone, but for redrives and its first start."""

import logging
from typing import Any

import pytest

from eventfleet.roles.redrive_schedule import COMPARE_INTERVAL
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.unit.relay_fixture import Team, a_parking_relay, ask, opened, parked_at

CALLS = ("parked_in", "park", "unpark", "requests", "note_discarded")


class Outage:
    """The dead-letter store and the registry are away, until `end`."""

    def __init__(self, memory: InMemoryServers) -> None:
        self.calls = 0
        self._letters, self._registry = memory.dead_letters, memory.events.registry
        for call in CALLS:
            setattr(self._letters, call, self._fail)
        self._registry.has_begun = self._fail  # type: ignore[method-assign]

    async def _fail(self, *_: Any) -> Any:
        self.calls += 1
        raise ServerUnavailable("MongoDB is away")

    def end(self) -> None:
        for call in CALLS:
            delattr(self._letters, call)
        del self._registry.has_begun


def seen(memory: InMemoryServers) -> list[str]:
    return [event.id for event in memory.seen("all")]


async def test_events_flow_and_the_store_is_asked_once_in_an_interval() -> None:
    _, memory, relay = await a_parking_relay("2")
    outage = Outage(memory)
    for _ in range(5):
        await relay.tick()
    await take(relay, await memory.append("6", "b"))
    assert seen(memory) == ["1", "3", "5", "6"]
    assert outage.calls == 1
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    assert outage.calls == 2


async def test_what_is_parked_meanwhile_is_listed_and_redriven_afterwards() -> None:
    team, memory, relay = await a_parking_relay("2", "6")
    outage = Outage(memory)
    await take(relay, await memory.append("6", "b"))
    await take(relay, await memory.append("7", "c"))
    assert seen(memory) == ["1", "3", "5", "7"]
    outage.end()
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    assert sorted(await parked_at(memory)) == [("a", 2, 3, 1), ("b", 3, 3, 1)]
    team.poison.clear()
    await ask(memory)
    await relay.tick()
    assert seen(memory) == ["1", "3", "5", "7", "2", "4", "6"]
    assert await parked_at(memory) == []


async def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    _, memory, relay = await a_parking_relay()
    outage = Outage(memory)
    for _ in range(3):
        memory.clock.time += COMPARE_INTERVAL
        await relay.tick()
    outage.end()
    for _ in range(2):
        memory.clock.time += COMPARE_INTERVAL
        await relay.tick()
    assert [record.getMessage() for record in caplog.records] == [
        "relay of tally, partition 0: redrives wait: MongoDB is away",
        "relay of tally, partition 0: redrives wait no longer",
    ]


async def test_a_new_owner_goes_on_with_what_the_log_has_parked() -> None:
    _, memory, _ = await a_parking_relay("2")
    outage = Outage(memory)
    relay = await opened(memory)
    await take(relay, await memory.append("6", "a") + await memory.append("7", "b"))
    assert seen(memory) == ["1", "3", "5", "7"]
    outage.end()
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 4, 1)]


async def test_a_discard_that_was_not_noted_is_noted_afterwards() -> None:
    _, memory, relay = await a_parking_relay("2")
    await ask(memory, discard=True)
    note = memory.dead_letters.note_discarded

    async def fail(*_: Any) -> None:
        raise ServerUnavailable("MongoDB is away")

    memory.dead_letters.note_discarded = fail  # type: ignore[method-assign]
    await relay.tick()
    assert await memory.dead_letters.discarded("relay", ["a"]) == []
    memory.dead_letters.note_discarded = note  # type: ignore[method-assign]
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    [tombstone] = await memory.dead_letters.discarded("relay", ["a"])
    assert (tombstone.event_id, tombstone.version) == ("2", 2)


@pytest.mark.parametrize("loses_offset", [True, False])
async def test_a_first_start_waits_for_the_registry(loses_offset: bool) -> None:
    """Without it nobody knows whether the role has begun, and has lost its offset."""
    memory = InMemoryServers(Team().domain)
    if loses_offset:
        await opened(memory)
        del memory.log.offsets[memory.writer("relay").source]
    await memory.append("1")
    outage = Outage(memory)
    with pytest.raises(ServerUnavailable):
        await opened(memory)
    assert memory.offset("relay") is None
    outage.end()


async def test_an_offset_that_may_not_have_been_noted_waits_for_the_registry() -> None:
    memory = InMemoryServers(Team().domain)
    memory.log.offsets[memory.writer("relay").source] = 0
    await memory.append("1")
    outage = Outage(memory)
    with pytest.raises(ServerUnavailable):
        await opened(memory)
    outage.end()
    await opened(memory)


def test_the_calls_are_those_of_the_store() -> None:
    assert all(hasattr(MemoryDeadLetters, call) for call in CALLS)
