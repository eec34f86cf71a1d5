"""Events, snapshots and states of an aggregate."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest

from domains.declaration import Domain
from domains.payloads import Event
from service.queries import Querier
from snapshot_rules import every
from stores.contracts import Opened, Snapshot
from stores.memory.events import MemoryEvents
from tests.simulation.tally import Counted, Tally, evolve
from tests.simulation.twins import START, Twins
from topics.event import EventRecord


class Closed(Event):
    n: str


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


class Counting(MemoryEvents):
    """Counts the events that were read."""

    read_events = 0

    async def read(self, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        async for event in super().read(*args, **named):
            self.read_events += 1
            yield event


@pytest.fixture
async def twins() -> Twins:
    """Five events of `a`: the first of an old schema version."""
    twins = Twins(NOTES)
    twins.events = events = Counting()
    twins.stores = Opened(events, twins.snapshots)
    await twins.store("1")
    for n in "234":
        await twins.store(n, schema_version=2)
    await twins.store("5", type="Closed")
    events.read_events = 0
    return twins


@pytest.fixture
def querier(twins: Twins) -> Querier[Tally]:
    return Querier(twins.domain, twins.stores, twins.clock)


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
        ({"types": {"Counted"}, "after": 2, "limit": 5}, ["3", "4"]),
        ({"after": 5}, []),
    ],
)
async def test_events_that_were_asked_for(
    querier: Querier[Tally], asked: dict[str, Any], ids: list[str]
) -> None:
    assert [event.id async for event in querier.events("a", **asked)] == ids


async def test_the_latest_state_is_saved_as_a_snapshot(
    twins: Twins, querier: Querier[Tally]
) -> None:
    assert await querier.snapshot("a") is None
    latest = await querier.latest("a")
    assert latest is not None
    assert (latest.version, latest.state.trail) == (5, ("1!", "2", "3", "4", "5"))
    assert orjson.dumps(latest.data) == b'{"trail":["1!","2","3","4","5"]}'
    assert await querier.snapshot("a") == Snapshot("a", 5, latest.data, 1, START)
    assert twins.records(twins.topics.snapshots) == []


async def test_the_latest_state_reads_the_snapshot_and_the_events_after_it(
    twins: Twins, querier: Querier[Tally]
) -> None:
    store = twins.events
    assert isinstance(store, Counting)
    await querier.latest("a")
    assert store.read_events == 5
    await querier.latest("a")
    assert store.read_events == 5
    await twins.store("6", schema_version=2)
    store.read_events = 0
    latest = await querier.latest("a")
    assert (store.read_events, latest and latest.version) == (1, 6)


async def test_the_same_latest_state_is_saved_once(twins: Twins, querier: Querier[Tally]) -> None:
    await querier.latest("a")
    twins.clock.time += timedelta(hours=1)
    await querier.latest("a")
    shot = await querier.snapshot("a")
    assert shot is not None
    assert shot.taken_at == START


async def test_a_state_too_large_is_answered_and_not_saved(twins: Twins) -> None:
    querier = Querier(twins.domain, twins.stores, twins.clock, limit=10)
    latest = await querier.latest("a")
    assert latest is not None
    assert latest.version == 5
    assert await twins.snapshots.count() == 0


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_the_state_at_a_version_comes_from_the_nearest_snapshot(
    twins: Twins, querier: Querier[Tally], version: int
) -> None:
    store = twins.events
    assert isinstance(store, Counting)
    for at in (2, 4):
        state = {"trail": [f"snapshot {at}"]}
        await twins.snapshots.save([Snapshot("a", at, state, 1, START)])
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
    assert await querier.snapshot("a") == Snapshot("a", 4, {"trail": ["snapshot 4"]}, 1, START)


@pytest.mark.parametrize("version", [-1, 0, 6])
async def test_there_is_no_state_at_a_version_without_an_event(
    querier: Querier[Tally], version: int
) -> None:
    assert await querier.at("a", version) is None


async def test_nothing_is_known_of_an_aggregate_without_events(
    twins: Twins, querier: Querier[Tally]
) -> None:
    assert [event async for event in querier.events("b")] == []
    assert await querier.snapshot("b") is None
    assert await querier.latest("b") is None
    assert await querier.at("b", 1) is None
    assert await twins.snapshots.count() == 0


@pytest.mark.parametrize(
    "useless",
    [
        Snapshot("a", 5, {"trail": ["another state version"]}, 2, START),
        Snapshot("a", 5, {"trail": 7}, 1, START),
    ],
    ids=["state version", "shape"],
)
async def test_a_snapshot_that_does_not_fit_is_not_used(
    twins: Twins, querier: Querier[Tally], useless: Snapshot
) -> None:
    await twins.snapshots.save([useless])
    for found in (await querier.latest("a"), await querier.at("a", 5)):
        assert found is not None
        assert found.state.trail == ("1!", "2", "3", "4", "5")
