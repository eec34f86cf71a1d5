"""What the snapshot role does to one chunk, and as time passes."""

import logging
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.model.shapes import StateShape
from eventfleet.model.team_traceback import PACKAGE
from eventfleet.roles import aged_states
from eventfleet.roles.redrive_schedule import COMPARE_INTERVAL
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.service.parked_aggregates import ParkedAggregates
from eventfleet.snapshot_rules import Rule, after, every, on, size
from eventfleet.states.lru_cache import cache_statistics
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.contracts.dead_letters import ParkedEntries, ParkedQuery
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.log import MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventKey
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate
from eventfleet.topics.record import LogRecord
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import Counted, Tally, evolve


class Closed(Event):
    n: str


def a_domain(rule: Rule | None, **named: Any) -> Domain[Tally]:
    wanted: dict[str, Any] = {"state": Tally, "evolve": evolve, "events": [Counted, Closed]}
    return Domain("tally", snapshot=rule, **(wanted | named))


def a_role(
    memory: InMemoryServers, cached: int = 100, limit: int = 10_000, **options: Any
) -> SnapshotRole:
    return SnapshotRole(
        *(
            memory.domain,
            0,
            memory.stores,
            memory.writer("snapshot"),
            memory.parking("snapshot", **options),
            memory.clock,
        ),
        cached=cached,
        limit=limit,
    )


async def opened(memory: InMemoryServers, **named: Any) -> SnapshotRole:
    role = a_role(memory, **named)
    await role.open()
    return role


async def append(memory: InMemoryServers, *ns: str, key: str = "a") -> list[LogRecord]:
    return [record for n in ns for record in await memory.append(n, key)]


async def kept(memory: InMemoryServers, *keys: str) -> dict[str, int]:
    """The versions of the newest snapshots."""
    found = await memory.snapshots.latest(keys or ["a", "b"], memory.domain.state_shape)
    return {key: shot.version for key, shot in found.items()}


def in_topic(memory: InMemoryServers) -> list[dict[str, Any]]:
    return [orjson.loads(r.value or b"") for r in memory.records(memory.topics.snapshots)]


def versions(memory: InMemoryServers) -> list[tuple[str, int]]:
    return [(value["aggregate_id"], value["version"]) for value in in_topic(memory)]


# Rules


async def test_every_so_many_events_and_once_a_chunk() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    role = await opened(memory)
    report = await take(role, await append(memory, "1"))
    assert (report.snapshots, await kept(memory), memory.offset("snapshot")) == (0, {}, 1)
    report = await take(role, await append(memory, "2", "3"))
    assert (report.snapshots, await kept(memory)) == (1, {"a": 3})
    report = await take(role, await append(memory, "4"))
    assert (report.snapshots, versions(memory)) == (0, [("a", 3)])


async def test_snapshots_are_counted_by_the_rule_that_made_them_due() -> None:
    memory = InMemoryServers(a_domain(every(2) | on(Closed)))
    role = await opened(memory)
    report = await take(role, await append(memory, "1", "2"))
    assert report.rules == {"every": 1}
    report = await take(role, await memory.append("3", type="Closed"))
    assert report.rules == {"on": 1}
    report = await take(await opened(memory, limit=1), await append(memory, "4", "5"))
    assert (report.too_large, report.rules) == (1, {})


async def test_states_that_are_cached_are_counted_as_hits() -> None:
    name = f"tally-{uuid4().hex}"
    domain = Domain(name, state=Tally, evolve=evolve, events=[Counted], snapshot=every(2))
    memory = InMemoryServers(domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2"))
    await take(role, await append(memory, "3") + await append(memory, "4", key="b"))
    counted = cache_statistics(name, "snapshot", "states")
    assert (counted.hits, counted.misses) == (1, 2)


async def test_the_store_and_the_topic_have_the_same_snapshot() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    await take(await opened(memory), await append(memory, "1", "2"))
    [shot] = (await memory.snapshots.latest(["a"], memory.domain.state_shape)).values()
    assert list(shot.state["trail"]) == ["1", "2"]
    [record] = memory.records(memory.topics.snapshots)
    assert (record.key, record.partition) == (b"a", 0)
    assert orjson.loads(record.value or b"") == {
        "aggregate_id": "a",
        "version": 2,
        "state": {"trail": ["1", "2"]},
        "state_version": 1,
        "fingerprint": memory.domain.state_shape.fingerprint,
        "taken_at": "2025-01-01T00:00:00Z",
    }


async def test_on_a_type() -> None:
    memory = InMemoryServers(a_domain(on(Closed)))
    role = await opened(memory)
    await take(role, await append(memory, "1", "2"))
    assert await kept(memory) == {}
    await take(role, await memory.append("3", type="Closed") + await append(memory, "4"))
    assert await kept(memory) == {"a": 4}


async def test_a_size() -> None:
    memory = InMemoryServers(a_domain(size(20)))
    role = await opened(memory)
    await take(role, await append(memory, "1"))
    assert await kept(memory) == {}
    await take(role, await append(memory, "a name of some bytes"))
    assert await kept(memory) == {"a": 2}


async def test_without_a_rule_the_offset_moves_and_nothing_is_kept() -> None:
    memory = InMemoryServers(a_domain(None))
    role = await opened(memory)
    await take(role, await append(memory, *"12345"))
    assert (await kept(memory), memory.offset("snapshot")) == ({}, 5)


async def test_what_is_folded_in_memory_stays_there_longest() -> None:
    memory = InMemoryServers(a_domain(None))
    role = await opened(memory, cached=2)
    for n, key in enumerate("abac"):
        await take(role, await append(memory, str(n), key=key))
    looked_up: list[str] = []
    latest = memory.stores.snapshots.latest

    async def noted(keys: Collection[str], shape: StateShape) -> dict[str, Snapshot]:
        looked_up.extend(keys)
        return await latest(keys, shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory.stores.snapshots, "latest", noted)
        for n, key in enumerate("acb", 4):
            await take(role, await append(memory, str(n), key=key))
    assert looked_up == ["b"]


# Time


@pytest.mark.parametrize("cached", [1, 100])
async def test_time_makes_snapshots_of_silent_aggregates_due(cached: int) -> None:
    memory = InMemoryServers(a_domain(after(minutes=10)))
    role = await opened(memory, cached=cached)
    for key in "abc":
        await take(role, await append(memory, "1" + key, key=key))
    await ticks(role, memory, minutes=9)
    assert await kept(memory, *"abc") == {}
    await ticks(role, memory, minutes=2)
    assert await kept(memory, *"abc") == {"a": 1, "b": 1, "c": 1}
    assert sorted(versions(memory)) == [("a", 1), ("b", 1), ("c", 1)]


@pytest.mark.parametrize("done", [False, True])
async def test_what_time_made_due_is_in_store_and_topic_after_a_commit_of_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    memory = InMemoryServers(a_domain(after(minutes=10)))
    role = await opened(memory)
    await take(role, await append(memory, "1"))
    commit = MemoryTransactionalWriter.commit

    async def unanswered(*arguments: Any, **named: Any) -> None:
        if done:
            await commit(*arguments, **named)
        raise ServerUnavailable("no answer")

    monkeypatch.setattr(MemoryTransactionalWriter, "commit", unanswered)
    with pytest.raises(ServerUnavailable):
        await ticks(role, memory, minutes=11)
    monkeypatch.undo()
    await role.open()
    await ticks(role, memory, minutes=2)
    assert await kept(memory) == {"a": 1}
    assert {*versions(memory)} == {("a", 1)}


async def test_time_counts_from_the_last_snapshot() -> None:
    memory = InMemoryServers(a_domain(after(minutes=10)))
    role = await opened(memory)
    await take(role, await append(memory, "1"))
    await ticks(role, memory, minutes=11)
    await take(role, await append(memory, "2"))
    await ticks(role, memory, minutes=8)
    assert await kept(memory) == {"a": 1}
    await ticks(role, memory, minutes=3)
    assert await kept(memory) == {"a": 2}


async def test_a_restart_finds_silent_aggregates_page_by_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aged_states, "SWEEP_PAGE_AGGREGATES", 2)
    memory = InMemoryServers(a_domain(after(minutes=10)))
    keys = "abcde"
    role = await opened(memory)
    for key in keys:
        await take(role, await append(memory, "1" + key, key=key))
    memory.clock.time += timedelta(minutes=11)
    role = await opened(memory)
    found = []
    for _ in range(3):
        await role.tick()
        found.append(len(await kept(memory, *keys)))
    assert found == [2, 4, 5]
    assert memory.offset("snapshot") == len(keys)


async def test_a_tick_without_anything_due_commits_nothing() -> None:
    memory = InMemoryServers(a_domain(after(minutes=10)))
    role = await opened(memory)
    await role.tick()
    assert memory.offset("snapshot") == 0


async def ticks(role: SnapshotRole, memory: InMemoryServers, minutes: int) -> None:
    for _ in range(minutes):
        memory.clock.time += timedelta(minutes=1)
        await role.tick()


# Repeats, gaps, restarts


async def test_repeats_are_not_folded() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    role = await opened(memory)
    records = await append(memory, "1", "2")
    await take(role, records)
    report = await take(role, [*records, *await append(memory, "3", "4")])
    assert (report.repeated, versions(memory)) == (2, [("a", 2), ("a", 4)])
    assert in_topic(memory)[-1]["state"] == {"trail": ["1", "2", "3", "4"]}


async def test_repeats_and_gaps_among_the_events_of_a_chunk() -> None:
    memory = InMemoryServers(a_domain(every(5)))
    role = await opened(memory)
    one, two = await append(memory, "1", "2")
    await memory.store("3")
    four, five = await append(memory, "4", "5")
    other = await append(memory, "6", "7", key="b")
    report = await take(role, [one, other[0], two, one, four, two, five, *other, four])
    assert report.repeated == 4
    assert in_topic(memory)[-1]["state"] == {"trail": ["1", "2", "3", "4", "5"]}
    assert versions(memory) == [("a", 5)]


@pytest.mark.parametrize("restart", [True, False])
async def test_a_gap_is_read_from_the_stores(restart: bool) -> None:
    memory = InMemoryServers(a_domain(every(3)))
    role = await opened(memory)
    await take(role, await append(memory, "1"))
    await memory.store("2")
    if restart:
        role = await opened(memory)
    await take(role, await append(memory, "3"))
    assert in_topic(memory)[-1]["state"] == {"trail": ["1", "2", "3"]}


async def test_a_version_that_the_store_does_not_have_yet() -> None:
    memory = InMemoryServers(a_domain(every(3)))
    role = await opened(memory)
    await memory.emit(memory.topics.stored, memory.event("2", version=2, position="0-0-1"))
    with pytest.raises(
        ServerUnavailable, match="tally 'a' version 1 is not in the event store yet"
    ):
        await take(role, memory.records(memory.topics.stored))
    assert memory.offset("snapshot") == 0


class Down(MemorySnapshots):
    async def save(self, snapshots: Any) -> None:
        raise ServerUnavailable("down")


async def test_a_chunk_is_done_again_after_a_refused_save() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    role = await opened(memory)
    stores, memory.stores = memory.stores, DomainStores(memory.events, Down())
    role = await opened(memory)
    records = await append(memory, "1", "2")
    with pytest.raises(ServerUnavailable):
        await take(role, records)
    assert (versions(memory), memory.offset("snapshot")) == ([], 0)
    memory.stores = stores
    await take(await opened(memory), records)
    assert in_topic(memory)[-1]["state"] == {"trail": ["1", "2"]}


async def test_the_snapshot_of_a_dead_owner_goes_to_the_topic() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    records = await append(memory, "1", "2")
    async with Querier(memory.domain, memory.stores, memory.clock).running() as querier:
        await querier.latest("a")
    memory.clock.time += timedelta(minutes=5)
    report = await take(await opened(memory), records)
    assert (report.repeated, report.snapshots, versions(memory)) == (2, 0, [("a", 2)])
    assert in_topic(memory)[0]["taken_at"] == "2025-01-01T00:00:00Z"


# State versions


async def test_another_state_version_is_ignored_and_rebuilt() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    await take(await opened(memory), await append(memory, "1", "2"))
    memory.domain = replace(memory.domain, state_version=2)
    await take(await opened(memory), await append(memory, "3"))
    assert await kept(memory) == {"a": 3}
    last = in_topic(memory)[-1]
    assert (last["state"], last["state_version"]) == ({"trail": ["1", "2", "3"]}, 2)


# States too large


async def test_a_state_too_large_is_skipped_and_blocks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = InMemoryServers(a_domain(every(2)))
    role = await opened(memory, limit=40)
    big = await append(memory, "x" * 50, "y")
    with caplog.at_level(logging.WARNING):
        report = await take(role, [*big, *await append(memory, "1", "2", key="b")])
    assert (report.too_large, report.snapshots) == (1, 1)
    assert (await kept(memory), memory.offset("snapshot")) == ({"b": 2}, 4)
    [warning] = caplog.messages
    assert warning.startswith("tally 'a' version 2: ")
    assert "40 bytes" in warning
    assert (await take(role, await append(memory, "3"))).too_large == 0


# What can't be used


async def test_the_rest_of_a_chunk_goes_on_past_an_unreadable_record() -> None:
    memory = InMemoryServers(a_domain(every(2)))
    role = await opened(memory)
    await append(memory, "1")
    await memory.put(memory.topics.stored, ("a", b"[]"))
    await append(memory, "2")
    report = await take(role, memory.records(memory.topics.stored))
    assert (report.dead_letters, await kept(memory)) == (1, {"a": 2})
    [letter] = memory.records(memory.topics.dead_letters)
    headers = dict(letter.headers)
    assert headers["eventfleet-source"] == b"tally.stored/0/1"
    assert headers["eventfleet-role"] == b"snapshot"
    assert headers["eventfleet-reason"] == b"value: is not a JSON object"


def failing(*_: Any) -> Any:
    raise ZeroDivisionError("by nought")


@pytest.mark.parametrize(
    ("named", "schema"), [({"evolve": failing}, 2), ({"upcasters": {Counted: [failing]}}, 1)]
)
async def test_what_raises_parks_its_aggregate(
    named: dict[str, Any], schema: int, caplog: pytest.LogCaptureFixture
) -> None:
    upcast = {"upcasters": {Counted: [dict]}}
    memory = InMemoryServers(a_domain(every(1), **(upcast | named)))
    role = await opened(memory)
    await append(memory, "0", key="b") if schema == 2 else None
    records = await memory.append("1", schema_version=schema)
    report = await take(role, records)
    [parked] = await memory.dead_letters.parked_in("snapshot", 0)
    assert (parked.aggregate_id, parked.first, parked.event_id) == ("a", 1, "1")
    assert parked.reason == "ZeroDivisionError: by nought"
    assert f'File "{__file__}", line ' in parked.details
    assert 'raise ZeroDivisionError("by nought")' in parked.details
    assert (await kept(memory), report.parked) == ({}, 1)
    assert memory.offset("snapshot") == records[0].offset + 1
    headers = dict(memory.records(memory.topics.dead_letters)[-1].headers)
    assert headers["eventfleet-kind"] == b"parked"
    # The team reads its own lines, and none of ours, in the log and with the dead letter.
    for told in (headers["eventfleet-traceback"].decode(), caplog.text):
        assert 'raise ZeroDivisionError("by nought")' in told
        assert f"{PACKAGE}/" not in told.partition("Traceback")[2]


async def test_an_error_whose_text_raises_parks_as_well() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def muted(tally: Tally, event: Any) -> Tally:
        raise Mute

    memory = InMemoryServers(a_domain(every(1), evolve=muted))
    await take(await opened(memory), await append(memory, "1"))
    [parked] = await memory.dead_letters.parked_in("snapshot", 0)
    assert parked.reason == "Mute, whose text raises ValueError"


async def test_what_raises_among_others_parks_its_own_aggregate_only() -> None:
    def particular(tally: Tally, event: Any) -> Tally:
        return failing() if event.n == "3" else evolve(tally, event)

    memory = InMemoryServers(a_domain(every(1), evolve=particular))
    role = await opened(memory)
    await append(memory, "6", "7", key="b")
    await memory.put(memory.topics.stored, ("a", b"[]"))
    await append(memory, "1", "2", "3", "4")
    await take(role, memory.records(memory.topics.stored))
    assert (await kept(memory), memory.offset("snapshot")) == ({"a": 2, "b": 2}, 7)
    assert [each.first for each in await memory.dead_letters.parked_in("snapshot", 0)] == [3]


# Parked aggregates


class Team:
    """A team whose evolve, or rule, raises on some events, until it is mended."""

    def __init__(self, *poison: str, rule: Rule | None = None) -> None:
        self.poison = {*poison}
        self.domain = a_domain(rule or every(1), evolve=self._evolve)

    def _evolve(self, tally: Tally, event: Any) -> Tally:
        return failing() if event.n in self.poison else evolve(tally, event)


async def ask(memory: InMemoryServers, discard: bool = False, limit: int = 10) -> None:
    for each in await memory.dead_letters.find(ParkedQuery(), limit):
        why = Discard("a mistake", "ann", memory.clock.now()) if discard else None
        assert await memory.dead_letters.request(each, why)


async def parked_at(memory: InMemoryServers) -> list[tuple[str, int, int]]:
    found = await memory.dead_letters.find(ParkedQuery(), 10)
    return [(each.aggregate_id, each.first, each.attempts) for each in found]


async def test_a_redrive_loads_the_state_with_all_that_came_since() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2", "3"))
    await take(role, await append(memory, "4"))
    assert (await kept(memory), await parked_at(memory)) == ({"a": 1}, [("a", 2, 1)])
    await ask(memory)
    await role.tick()
    assert await parked_at(memory) == [("a", 2, 2)]
    team.poison.clear()
    await ask(memory)
    report = await role.tick()
    assert (await kept(memory), report.redriven, await parked_at(memory)) == ({"a": 4}, 1, [])
    await take(role, await append(memory, "5"))
    assert await kept(memory) == {"a": 5}


async def test_a_discarded_event_is_folded_by_nobody() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2", "3"))
    await ask(memory, discard=True)
    await role.tick()
    assert (await kept(memory), await parked_at(memory)) == ({"a": 3}, [])
    assert [event.discarded for event in await memory.history()] == [False, True, False]
    state = await Querier(team.domain, memory.stores, memory.clock).latest("a")
    assert state
    assert state.state.trail == ("1", "3")
    [tombstone] = await memory.dead_letters.discarded("snapshot", ["a"])
    assert (tombstone.event_id, tombstone.discard.by) == ("2", "ann")
    assert await memory.logged("snapshot") == ParkedEntries([], [tombstone])


async def test_a_discard_is_in_the_log_before_its_mark_is_in_the_store() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2"))
    await ask(memory, discard=True)

    async def die(_: EventKey, **__: bool) -> None:
        raise ServerUnavailable("the store is lost")

    memory.events.mark_discarded = die  # type: ignore[method-assign]
    with pytest.raises(ServerUnavailable):
        await role.tick()
    [tombstone] = (await memory.logged("snapshot")).discarded
    assert (tombstone.aggregate_id, tombstone.version, tombstone.event_id) == ("a", 2, "2")


async def test_what_snapshot_parks_is_in_the_log_until_it_is_parked_no_longer() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2", "3"))
    [parked] = (await memory.logged("snapshot")).parked
    assert [parked] == await memory.dead_letters.parked_in("snapshot", 0)
    team.poison.clear()
    await ask(memory)
    await role.tick()
    assert (await memory.logged("snapshot")).parked == []


async def test_the_next_owner_writes_to_the_log_what_only_the_store_has() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2"))
    memory.log.entries(memory.topics.parked, 0).clear()
    role = await opened(memory)
    await take(role, await append(memory, "3", key="b"))
    assert (await memory.logged("snapshot")).parked == await memory.dead_letters.parked_in(
        "snapshot", 0
    )


async def test_a_discarded_event_that_comes_again_parks_nothing() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    records = await append(memory, "1", "2", "3")
    await memory.events.mark_discarded(EventKey("a", "2"))
    discard = Discard("a mistake", "ann", memory.clock.now())
    await memory.dead_letters.note_discarded([DiscardedEvent("snapshot", "a", 2, "2", discard)])
    role = await opened(memory)
    await take(role, records)
    assert (await kept(memory), await parked_at(memory)) == ({"a": 3}, [])


@pytest.mark.parametrize("restart", [True, False])
async def test_an_event_that_was_discarded_is_not_folded_when_it_comes_again_after_a_mend(
    restart: bool,
) -> None:
    team = Team("2", rule=every(4))
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    records = await append(memory, "1", "2", "3")
    await take(role, records)
    await ask(memory, discard=True)
    await role.tick()
    team.poison.clear()
    if restart:
        role = await opened(memory)
    else:
        role._states.clear()
    await take(role, records)
    await take(role, await append(memory, "4"))
    assert (await kept(memory), await parked_at(memory)) == ({"a": 4}, [])
    [snapshot] = (await memory.snapshots.latest(["a"], team.domain.state_shape)).values()
    assert snapshot.state["trail"] == ("1", "3", "4")


async def test_what_fails_is_not_read_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemoryServers(Team("2").domain)
    role = await opened(memory)
    await take(role, await append(memory, "1"))
    records = await append(memory, "2")

    def read(aggregate_id: str, *rest: Any) -> Any:
        raise AssertionError(f"{aggregate_id} is read")

    monkeypatch.setattr(memory.events, "read", read)
    monkeypatch.setattr(memory.events, "find", read)
    await take(role, records)
    assert await parked_at(memory) == [("a", 2, 1)]


async def test_a_rule_that_raises_parks_the_aggregate() -> None:
    class Failing(Rule):
        mended = False

        def due(self, since: Any) -> bool:
            return True if self.mended else failing()

    rule = Failing()
    memory = InMemoryServers(Team(rule=rule).domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2"))
    assert (await kept(memory), await parked_at(memory)) == ({}, [("a", 2, 1)])
    rule.mended = True
    await ask(memory)
    await role.tick()
    assert (await kept(memory), await parked_at(memory)) == ({"a": 2}, [])


async def test_many_aggregates_are_redriven_in_few_transactions() -> None:
    keys = [f"k{n}" for n in range(30)]
    team = Team(*keys)
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    for key in keys:
        await append(memory, key, f"{key} later", key=key)
    await take(role, memory.records(memory.topics.stored))
    team.poison = {"k3", "k7 later"}
    await ask(memory, limit=100)
    commits, commit = 0, role._writer.commit

    async def counted(*about: Any, **named: Any) -> None:
        nonlocal commits
        commits += 1
        await commit(*about, **named)

    role._writer.commit = counted  # type: ignore[method-assign]
    report = await role.tick()
    assert (commits, report.redriven) == (2, 28)
    assert await parked_at(memory) == [("k3", 1, 2), ("k7", 2, 1)]
    assert await memory.dead_letters.requests("snapshot", 0, 10) == []
    assert await kept(memory, *keys) == {key: 2 for key in keys if key not in ("k3", "k7")}


async def test_an_owner_drops_what_an_earlier_one_has_redriven_since() -> None:
    team = Team("2")
    memory = InMemoryServers(team.domain)
    role = await opened(memory)
    await take(role, await append(memory, "1", "2", "3"))
    team.poison.clear()
    await memory.dead_letters.unpark("snapshot", ["a"])
    memory.clock.time += COMPARE_INTERVAL
    await role.tick()
    assert (await kept(memory), role._parking.aggregates) == ({"a": 3}, {})


async def test_a_rule_that_raised_is_not_discarded() -> None:
    memory = InMemoryServers(Team(rule=every(1)).domain)
    parking = memory.parking("snapshot")
    await parking.open()
    parking.park_at("a", 1, LookupError("no rule"))
    await parking.save()
    desk = ParkedAggregates("tally", memory.dead_letters, memory.clock)
    with pytest.raises(InvalidRecord, match="has no event to discard: LookupError: no rule"):
        await desk.discard("snapshot", "a", 1, why="x", by="ann")


@pytest.mark.parametrize("asked", [True, False])
async def test_an_owner_adopts_what_an_earlier_one_parked_with_its_last_breath(
    asked: bool,
) -> None:
    team = Team("9")
    memory = InMemoryServers(team.domain)
    role = a_role(memory, tried=None if asked else set())
    await role.open()
    await take(role, await append(memory, "1"))
    await memory.dead_letters.park(
        [ParkedAggregate("snapshot", 0, "a", 1, 1, "1", "T", "r", "", 1, memory.clock.now())]
    )
    memory.clock.time += COMPARE_INTERVAL
    await role.tick()
    if asked:
        await ask(memory)
    await role.tick()
    assert await parked_at(memory) == []
