"""Events, snapshots and states of an aggregate."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpatch import JsonPatch

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.snapshot_rules import every
from eventfleet.states import snapshot_saver
from eventfleet.states.latest_states import LatestState, LatestStateQuery
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache, cache_statistics
from eventfleet.states.querier import Querier, StateAt, diff_states
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from tests.simulation.in_memory_servers import START, InMemoryServers
from tests.simulation.recording_domain import Counted, Tally, evolve
from tests.unit.eventually import until


class Closed(Event):
    n: str


class Trail(State):
    trail: list[str] = []  # noqa: RUF012 (msgspec copies it)


def extend(trail: Trail, event: Counted) -> Trail:
    return Trail(trail=[*trail.trail, event.n])


def lifted(data: dict[str, Any]) -> dict[str, Any]:
    return {"n": data["n"] + "!", "loud": True}


NOTES: Domain[Tally] = Domain(
    "tally",
    state=Tally,
    evolve=evolve,
    events=[Counted, Closed],
    upcasters={Counted: [lifted]},
    snapshot=every(5),
)


FINGERPRINT = NOTES.state_shape.fingerprint


class Counting(MemoryEvents):
    """Counts the events that were read."""

    read_events = 0

    async def read(self, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        async for event in super().read(*args, **named):
            self.read_events += 1
            yield event


@pytest.fixture
async def memory() -> InMemoryServers:
    """Five events of `a`: the first of an old schema version."""
    memory = InMemoryServers(NOTES)
    memory.events = events = Counting()
    memory.stores = DomainStores(events, memory.snapshots)
    await memory.store("1")
    for n in "234":
        await memory.store(n, schema_version=2)
    await memory.store("5", type="Closed")
    events.read_events = 0
    return memory


@pytest.fixture
def querier(memory: InMemoryServers) -> Querier[Tally]:
    return Querier(memory.domain, memory.stores, memory.clock)


async def saved_latest(querier: Querier[Tally], aggregate_id: str = "a") -> StateAt[Tally] | None:
    """The latest state, after it was saved as a snapshot."""
    async with querier.running():
        return await querier.latest(aggregate_id)


async def test_events_in_order_and_in_their_newest_schema(querier: Querier[Tally]) -> None:
    events = [event async for event in querier.events("a")]
    assert [event.version for event in events] == [1, 2, 3, 4, 5]
    assert (events[0].schema_version, events[0].data) == (2, {"n": "1!", "loud": True})
    assert events[1].data == {"n": "2"}


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"after": 3}, ["4", "5"]),
        ({"limit": 2}, ["1", "2"]),
        ({"after": 1, "limit": 1}, ["2"]),
        ({"types": {"Closed"}}, ["5"]),
        ({"types": ["Closed"]}, ["5"]),
        ({"types": ("Closed", "Counted")}, ["1", "2", "3", "4", "5"]),
        ({"types": {"Counted"}, "after": 2, "limit": 5}, ["3", "4"]),
        ({"after": 5}, []),
    ],
)
async def test_events_that_were_asked_for(
    querier: Querier[Tally], asked: dict[str, Any], ids: list[str]
) -> None:
    assert [event.id async for event in querier.events("a", **asked)] == ids


async def test_a_discarded_event_is_shown_as_it_is_stored_and_no_state_is_made_of_it(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    for n, version in (("6", 1), ("7", 2)):
        event = await memory.store(n, data={"unreadable": n}, schema_version=version)
        await memory.events.mark_discarded(event.key)
    await memory.store("8", schema_version=2)
    marks = {event.version: event.discarded async for event in querier.events("a", 4)}
    assert marks == {5: False, 6: True, 7: True, 8: False}
    missing = await querier.missing("a", 5)
    assert [event.data for event in missing.events][:2] == [{"unreadable": n} for n in "67"]
    assert len((await querier.feed("", 100)).items) == 8
    effective = [event.version async for event in querier.effective_events("a", 4)]
    assert effective == [5, 8]
    for found in (await querier.latest("a"), await querier.at("a", 8)):
        assert found is not None
        assert (found.version, found.state.trail[-2:]) == (8, ("5", "8"))
    difference = await querier.diff("a", 5, 7)
    assert difference is not None
    assert difference.patch == []


async def test_the_latest_state_is_saved_as_a_snapshot(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    assert await querier.snapshot("a") is None
    latest = await saved_latest(querier)
    assert latest is not None
    assert (latest.version, latest.state.trail) == (5, ("1!", "2", "3", "4", "5"))
    assert orjson.dumps(latest.data) == b'{"trail":["1!","2","3","4","5"]}'
    assert await querier.snapshot("a") == Snapshot("a", 5, latest.data, 1, START, FINGERPRINT)
    assert memory.records(memory.topics.snapshots) == []


async def test_the_latest_state_reads_the_snapshot_and_the_events_after_it(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    store = memory.events
    assert isinstance(store, Counting)
    await saved_latest(querier)
    assert store.read_events == 5
    await querier.latest("a")
    assert store.read_events == 5
    await memory.store("6", schema_version=2)
    store.read_events = 0
    latest = await querier.latest("a")
    assert (store.read_events, latest and latest.version) == (1, 6)


async def test_the_same_latest_state_is_saved_once(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    await saved_latest(querier)
    memory.clock.time += timedelta(hours=1)
    await saved_latest(querier)
    shot = await querier.snapshot("a")
    assert shot is not None
    assert shot.taken_at == START


class Refusing(MemorySnapshots):
    """Refuses to save, for these reasons, one after the other."""

    def __init__(self, *reasons: Exception) -> None:
        super().__init__()
        self.reasons = [*reasons]

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        if self.reasons:
            raise self.reasons.pop(0)
        await super().save(snapshots)


@pytest.mark.parametrize(
    "reason", [ServerUnavailable("away"), Misconfigured("no right to insert"), KeyError("code")]
)
async def test_a_latest_state_that_cant_be_saved_is_answered(
    memory: InMemoryServers, reason: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing(reason)
    querier = Querier(memory.domain, DomainStores(memory.events, refusing), memory.clock)
    async with querier.running():
        latest = await querier.latest("a")
        assert latest is not None
        assert latest.version == 5
        await until(lambda: querier.saver.dropped)
        assert str(reason) in caplog.text
        await querier.latest("a")
        await until(lambda: querier.saver.saved)
    assert await refusing.count() == 1


async def test_what_the_caller_does_with_a_state_is_not_saved(memory: InMemoryServers) -> None:
    domain = Domain("tally", state=Trail, evolve=extend, events=[Counted])
    querier: Querier[Trail] = Querier(domain, memory.stores, memory.clock)
    await memory.store("b-1", "b")
    async with querier.running():
        latest = await querier.latest("b")
        assert latest is not None
        latest.state.trail.append("the caller's")
        latest.data["trail"].append("the caller's")
    shot = await querier.snapshot("b")
    assert shot is not None
    assert shot.state == {"trail": ["b-1"]}


async def test_an_older_state_does_not_replace_one_that_waits(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    older = await querier.at("a", 3)
    assert older is not None
    await querier.latest("a")
    querier.saver.save_copy_later(LiveState("a", older.state, older.version))
    async with querier.running():
        pass
    shot = await querier.snapshot("a")
    assert shot is not None
    assert shot.version == 5


async def test_states_that_wait_are_bounded(
    memory: InMemoryServers, querier: Querier[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_saver, "MAX_PENDING_COPIES", 1)
    await memory.store("b-1", "b", schema_version=2)
    await querier.latest("a")
    await querier.latest("b")
    await querier.latest("a")
    async with querier.running():
        pass
    assert (querier.saver.saved, querier.saver.dropped) == (1, 1)
    assert await memory.snapshots.count() == 1


# The latest state on a cached one


@pytest.fixture
async def cached(memory: InMemoryServers) -> Querier[Tally]:
    """A Querier that has the state of all five events in its cache, and no snapshot."""
    cached: Querier[Tally] = Querier(memory.domain, memory.stores, memory.clock, cache=LruCache(1))
    await keep_latest(cached)
    return cached


async def keep_latest(querier: Querier[Tally]) -> LiveState:
    """As the Manager does: take the state out, and give it back."""
    (result,) = await querier.latest_states.build_all([LatestStateQuery("a", "1")])
    assert isinstance(result, LatestState)
    querier.latest_states.keep([result.live])
    return result.live


async def test_the_latest_state_has_the_events_after_the_cached_state(
    memory: InMemoryServers, cached: Querier[Tally]
) -> None:
    store = memory.events
    assert isinstance(store, Counting)
    await memory.store("6", schema_version=2)
    store.read_events = 0
    latest = await cached.latest("a")
    assert latest is not None
    assert (latest.version, latest.state.trail) == (6, ("1!", "2", "3", "4", "5", "6"))
    assert store.read_events == 1
    again = await cached.latest("a")
    assert again is not None
    assert (again.version, store.read_events) == (6, 1)


async def test_a_queried_state_is_not_the_managers(
    memory: InMemoryServers, cached: Querier[Tally]
) -> None:
    before = await cached.latest("a")
    await memory.store("6", schema_version=2)
    live = await keep_latest(cached)
    assert before is not None
    assert (before.version, len(before.state.trail), live.version) == (5, 5, 6)
    assert before.data == {"trail": ("1!", "2", "3", "4", "5")}


async def test_states_that_are_cached_are_counted_as_hits() -> None:
    domain = Domain(f"tally-{uuid4().hex}", state=Tally, evolve=evolve, events=[Counted])
    memory = InMemoryServers(domain)
    for key in "ab":
        await memory.append("1", key)
    cache: LruCache[LiveState] = LruCache(100)
    manager = Querier(domain, memory.stores, memory.clock, cache=cache, role="command")
    queries = Querier(domain, memory.stores, memory.clock, cache=cache)
    wanted = [LatestStateQuery(key, "none") for key in "ab"]
    for _ in range(2):
        found = await manager.latest_states.build_all(wanted)
        manager.latest_states.keep([each.live for each in found if isinstance(each, LatestState)])
    for key in "abc":
        await queries.latest(key)
    of_manager = cache_statistics(domain.name, "command", "states")
    of_queries = cache_statistics(domain.name, "query", "states")
    assert (of_manager.hits, of_manager.misses) == (2, 2)
    assert (of_queries.hits, of_queries.misses) == (2, 1)


async def test_a_query_hands_out_a_copy_of_what_is_cached(memory: InMemoryServers) -> None:
    domain = Domain("tally", state=Trail, evolve=extend, events=[Counted])
    querier: Querier[Trail] = Querier(domain, memory.stores, memory.clock, cache=LruCache(1))
    await memory.store("b-1", "b")
    (found,) = await querier.latest_states.build_all([LatestStateQuery("b", "")])
    assert isinstance(found, LatestState)
    querier.latest_states.keep([found.live])
    latest = await querier.latest("b")
    assert latest is not None
    latest.state.trail.append("the caller's")
    again = await querier.latest("b")
    assert again is not None
    assert again.state.trail == ["b-1"]


async def test_a_query_builds_its_own_state_while_the_manager_has_the_cached_one(
    memory: InMemoryServers, cached: Querier[Tally]
) -> None:
    (taken,) = await cached.latest_states.build_all([LatestStateQuery("a", "1")])
    assert isinstance(taken, LatestState)
    assert not cached.latest_states.is_cached("a")
    latest = await cached.latest("a")
    assert latest is not None
    assert latest.version == 5
    assert not cached.latest_states.is_cached("a")


async def test_a_query_does_not_fill_the_cache(cached: Querier[Tally]) -> None:
    assert await cached.latest("b") is None
    assert (cached.latest_states.is_cached("a"), cached.latest_states.is_cached("b")) == (
        True,
        False,
    )


async def test_a_state_too_large_is_answered_and_not_saved(memory: InMemoryServers) -> None:
    querier = Querier(memory.domain, memory.stores, memory.clock, limit=10)
    latest = await saved_latest(querier)
    assert latest is not None
    assert latest.version == 5
    assert await memory.snapshots.count() == 0


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_the_state_at_a_version_comes_from_the_nearest_snapshot(
    memory: InMemoryServers, querier: Querier[Tally], version: int
) -> None:
    store = memory.events
    assert isinstance(store, Counting)
    for at in (2, 4):
        state = {"trail": [f"snapshot {at}"]}
        await memory.snapshots.save([Snapshot("a", at, state, 1, START, FINGERPRINT)])
    found = await querier.at("a", version)
    trails = {
        1: ("1!",),
        2: ("snapshot 2",),
        3: ("snapshot 2", "3"),
        4: ("snapshot 4",),
        5: ("snapshot 4", "5"),
    }
    assert found is not None
    assert (found.version, found.state.trail) == (version, trails[version])
    assert store.read_events == version % 2
    assert await querier.snapshot("a") == Snapshot(
        "a", 4, {"trail": ["snapshot 4"]}, 1, START, FINGERPRINT
    )


@pytest.mark.parametrize("version", [-1, 0, 6])
async def test_there_is_no_state_at_a_version_without_an_event(
    querier: Querier[Tally], version: int
) -> None:
    assert await querier.at("a", version) is None


@pytest.mark.parametrize(
    ("minute", "version"), [(-1, None), (0, 1), (1, 2), (2, 2), (3, 4), (4, 4), (5, 5), (99, 5)]
)
async def test_the_state_at_a_time_is_that_of_the_highest_version_not_later(
    minute: int, version: int | None
) -> None:
    memory = InMemoryServers(NOTES)
    for n, minutes in zip("12345", [0, 1, 4, 3, 5], strict=True):
        moment = START + timedelta(minutes=minutes)
        await memory.store(n, schema_version=2, time=moment)
    querier = Querier(memory.domain, memory.stores, memory.clock)
    found = await querier.at_time("a", START + timedelta(minutes=minute))
    assert (found and found.version) == version
    assert found is None or found == await querier.at("a", found.version)


async def test_a_time_without_a_zone_is_refused(querier: Querier[Tally]) -> None:
    with pytest.raises(InvalidRecord, match="time: has no time zone"):
        await querier.at_time("a", START.replace(tzinfo=None))


async def test_the_difference_is_a_patch_from_one_version_to_another(
    querier: Querier[Tally],
) -> None:
    forth = await querier.diff("a", 3, 5)
    added = [("add", "/trail/3", "4"), ("add", "/trail/4", "5")]
    assert forth is not None
    assert [(step["op"], step["path"], step["value"]) for step in forth.patch] == added
    for first, second in [(0, 5), (5, 0), (5, 2), (2, 2)]:
        found = await querier.diff("a", first, second)
        assert found is not None
        trail = ["1!", "2", "3", "4", "5"]
        states = [{"trail": trail[:version]} for version in range(6)]
        assert JsonPatch(found.patch).apply(states[first]) == states[second]
        assert (found.patch == []) == (first == second)


@pytest.mark.parametrize("versions", [(1, 6), (6, 1), (-1, 2), (7, 8)])
async def test_there_is_no_difference_to_a_version_that_is_not_there(
    querier: Querier[Tally], versions: tuple[int, int]
) -> None:
    assert await querier.diff("a", *versions) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "/~"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab/~"), inner),
)


@given(before=plain, after=plain)
@pytest.mark.parametrize("same", [False, True])
def test_a_patch_of_any_states_leads_from_the_first_to_the_second(
    same: bool, before: Any, after: Any
) -> None:
    first, second = {"state": before}, {"state": before if same else after}
    patch = diff_states(first, second)
    assert orjson.dumps(JsonPatch(patch).apply(first), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        second, option=orjson.OPT_SORT_KEYS
    )
    assert {step["op"] for step in patch} <= {"add", "remove", "replace"}


async def test_what_a_reader_lacks_are_the_events_after_its_version(
    querier: Querier[Tally],
) -> None:
    found = await querier.missing("a", 3)
    assert (found.latest, [event.version for event in found.events]) == (5, [4, 5])
    assert not found.ahead
    first = await querier.missing("a", 0, limit=1)
    assert (first.latest, [event.data for event in first.events]) == (
        5,
        [{"n": "1!", "loud": True}],
    )
    nothing = await querier.missing("a", 5)
    assert (nothing.latest, nothing.events, nothing.ahead) == (5, [], False)


async def test_a_reader_that_claims_more_than_is_stored_is_told(querier: Querier[Tally]) -> None:
    for aggregate_id, latest in (("a", 5), ("nobody", 0)):
        found = await querier.missing(aggregate_id, 6)
        assert (found.latest, found.events, found.ahead) == (latest, [], True)


async def test_nothing_is_known_of_an_aggregate_without_events(
    memory: InMemoryServers, querier: Querier[Tally]
) -> None:
    assert [event async for event in querier.events("b")] == []
    assert await querier.snapshot("b") is None
    assert await saved_latest(querier, "b") is None
    assert await querier.at("b", 1) is None
    assert await memory.snapshots.count() == 0


@pytest.mark.parametrize(
    "useless",
    [
        Snapshot("a", 5, {"trail": ["another state version"]}, 2, START, FINGERPRINT),
        Snapshot("a", 5, {"trail": ["another shape"]}, 1, START, "another"),
        Snapshot("a", 5, {"trail": ["no shape"]}, 1, START),
        Snapshot("a", 5, {"trail": 7}, 1, START, FINGERPRINT),
    ],
    ids=["state version", "shape", "no shape", "damaged"],
)
async def test_a_snapshot_that_does_not_fit_is_not_used(
    memory: InMemoryServers, querier: Querier[Tally], useless: Snapshot
) -> None:
    await memory.snapshots.save([useless])
    for found in (await querier.latest("a"), await querier.at("a", 5)):
        assert found is not None
        assert found.state.trail == ("1!", "2", "3", "4", "5")
